// Has a cache line brought here from another core while there is something else to do.
//
// Thread safety: any. Nothing that can be seen happens, whatever the address: it need not be one.
#ifndef BATON_IPC_PREFETCH_H_
#define BATON_IPC_PREFETCH_H_

namespace baton::ipc {

// To be read.
inline void PrefetchToRead(const void* line) { __builtin_prefetch(line, /*rw=*/0); }

// To be written: taken away from who has it, so that the store need not wait. Not
// __builtin_prefetch, which makes a prefetch for reading of it wherever it may not rely on this
// instruction; those x86-64 that lack it take it for a no-op.
inline void PrefetchToWrite(const void* line) {
#if defined(__x86_64__)
  asm volatile("prefetchw %0" : : "m"(*static_cast<const char*>(line)));
#else
  __builtin_prefetch(line, /*rw=*/1);
#endif
}

}  // namespace baton::ipc

#endif  // BATON_IPC_PREFETCH_H_
