"""What the classes of COCO 2017 and ADE20K are called, and which number means which; read without torch.

COCO's 80 categories (Lin et al., "Microsoft COCO", arXiv 1405.0312) keep the ids of the 91 that were planned; models
count them without gaps in the order of their ids. The 150 classes of ADE20K (the benchmark of Zhou et al., arXiv
1608.05442) are 1 to 150 in a label map and have 0 for what is none of them; each is called by the first of the words
that the data set's own list (`objectInfo150.txt`) gives, as mmsegmentation calls it.
"""

from __future__ import annotations

_COCO = """
1 person; 2 bicycle; 3 car; 4 motorcycle; 5 airplane; 6 bus; 7 train; 8 truck; 9 boat; 10 traffic light; 11 fire
hydrant; 13 stop sign; 14 parking meter; 15 bench; 16 bird; 17 cat; 18 dog; 19 horse; 20 sheep; 21 cow; 22 elephant;
23 bear; 24 zebra; 25 giraffe; 27 backpack; 28 umbrella; 31 handbag; 32 tie; 33 suitcase; 34 frisbee; 35 skis; 36
snowboard; 37 sports ball; 38 kite; 39 baseball bat; 40 baseball glove; 41 skateboard; 42 surfboard; 43 tennis
racket; 44 bottle; 46 wine glass; 47 cup; 48 fork; 49 knife; 50 spoon; 51 bowl; 52 banana; 53 apple; 54 sandwich; 55
orange; 56 broccoli; 57 carrot; 58 hot dog; 59 pizza; 60 donut; 61 cake; 62 chair; 63 couch; 64 potted plant; 65
bed; 67 dining table; 70 toilet; 72 tv; 73 laptop; 74 mouse; 75 remote; 76 keyboard; 77 cell phone; 78 microwave; 79
oven; 80 toaster; 81 sink; 82 refrigerator; 84 book; 85 clock; 86 vase; 87 scissors; 88 teddy bear; 89 hair drier;
90 toothbrush
"""
_ADE20K = """
wall; building; sky; floor; tree; ceiling; road; bed; windowpane; grass; cabinet; sidewalk; person; earth; door;
table; mountain; plant; curtain; chair; car; water; painting; sofa; shelf; house; sea; mirror; rug; field; armchair;
seat; fence; desk; rock; wardrobe; lamp; bathtub; railing; cushion; base; box; column; signboard; chest of drawers;
counter; sand; sink; skyscraper; fireplace; refrigerator; grandstand; path; stairs; runway; case; pool table;
pillow; screen door; stairway; river; bridge; bookcase; blind; coffee table; toilet; flower; book; hill; bench;
countertop; stove; palm; kitchen island; computer; swivel chair; boat; bar; arcade machine; hovel; bus; towel;
light; truck; tower; chandelier; awning; streetlight; booth; television receiver; airplane; dirt track; apparel;
pole; land; bannister; escalator; ottoman; bottle; buffet; poster; stage; van; ship; fountain; conveyer belt;
canopy; washer; plaything; swimming pool; stool; barrel; basket; waterfall; tent; bag; minibike; cradle; oven; ball;
food; step; tank; trade name; microwave; pot; animal; bicycle; lake; dishwasher; screen; blanket; sculpture; hood;
sconce; vase; traffic light; tray; ashcan; fan; pier; crt screen; plate; monitor; bulletin board; shower; radiator;
glass; clock; flag
"""


def _listed(text: str) -> tuple[str, ...]:
    return tuple(" ".join(part.split()) for part in text.split(";"))


COCO_CATEGORIES: dict[int, str] = {int(number): name for number, _, name in (c.partition(" ") for c in _listed(_COCO))}
"""Name by category id, in the order of class indices 0 to 79."""
COCO_INDEX: dict[int, int] = {number: index for index, number in enumerate(COCO_CATEGORIES)}
"""Class index by category id."""
ADE20K_CLASSES: tuple[str, ...] = _listed(_ADE20K)
"""Names in the order of class indices 0 to 149; a label map holds the index + 1."""
