"""The hot loops of Shopsight: one public function per operation, a body per backend."""
