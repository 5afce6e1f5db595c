"""Hospital PACS exports: DICOM in, DICOM SEG out."""
