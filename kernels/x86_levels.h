// One binary for every x86-64, with a version of a function for what CPUs have.
//
// By levels, not by models: a CPU counts as of a model only if it is that very one, and any newer
// one would be left with the narrowest version. Not under sanitizers, whose runtime is not up yet
// when the dynamic loader makes the choice.
#ifndef BATON_KERNELS_X86_LEVELS_H_
#define BATON_KERNELS_X86_LEVELS_H_

#if defined(__x86_64__) && defined(__gnu_linux__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)
#define BATON_FOR_X86_LEVELS 1
#define BATON_AVX2_OR_ANY __attribute__((target_clones("arch=x86-64-v3", "default")))
#define BATON_AVX512_AVX2_OR_ANY \
  __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#define BATON_AVX512 __attribute__((target("avx512f")))
#else
#define BATON_AVX2_OR_ANY
#define BATON_AVX512_AVX2_OR_ANY
#endif

#endif  // BATON_KERNELS_X86_LEVELS_H_
