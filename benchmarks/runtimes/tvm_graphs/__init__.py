"""What TVM is given and how it is compiled: loops scheduled by one plain rule, since TVM's default leaves them bare."""
