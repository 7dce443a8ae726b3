"""The report as one HTML file that fetches nothing: tables that sort and filter, plots, every record and source."""
