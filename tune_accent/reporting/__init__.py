"""Views for people: numbers as text, tables, heat maps, and pages as HTML and Markdown. Nothing here measures or decides."""
