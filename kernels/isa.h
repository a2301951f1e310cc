/* Every kernels/x.c (but x_once.c) is compiled once per instruction set: base (x86-64), avx2 (x86-64-v3) and avx512
 * (x86-64-v4). The build gives HN_ISA; a function that other files see carries it as its suffix. */
#ifndef HONE_KERNELS_ISA_H
#define HONE_KERNELS_ISA_H

#define HN_ISA_PASTE_(name, isa) name##_##isa
#define HN_ISA_PASTE(name, isa) HN_ISA_PASTE_(name, isa)
#define HN_ISA_NAME(name) HN_ISA_PASTE(name, HN_ISA)

/* A body that is written once for all element types: the caller passes the type as a constant, and the branches on it go. */
#define HN_BODY static inline __attribute__((always_inline))

#endif
