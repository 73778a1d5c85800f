"""The CAs of arrays, which the CA service keeps."""
