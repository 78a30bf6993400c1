// A shared library that is no model.
extern "C" int baton_test_no_model() { return 0; }
