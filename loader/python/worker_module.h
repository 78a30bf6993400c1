// The module `_baton_worker`: what the package `baton` needs of the worker that
// it runs in.
#ifndef BATON_LOADER_PYTHON_WORKER_MODULE_H_
#define BATON_LOADER_PYTHON_WORKER_MODULE_H_

namespace baton::python {

// Once, with the GIL. Throws pybind11::error_already_set.
//
//   empty_output(name, shape, dtype)  ResultWriter::Lend, of this thread's call
//   Items                             the iterator of a streaming input (item_feed.h)
void AddWorkerModule();

}  // namespace baton::python

#endif  // BATON_LOADER_PYTHON_WORKER_MODULE_H_
