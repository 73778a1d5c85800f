"""Who a service other than the CA is: enrolled once on evidence, renewed from then on, shared by its processes."""
