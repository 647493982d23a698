// SPDX-License-Identifier: MIT
// What depends on the compiler and its flags; the only compiler #ifdefs of the library.
#pragma once

#include <xsoftmax/version.hpp>

// -inf is data here, and the sums are error-free only if the compiler keeps their order: flags that let it assume
// finite numbers or rearrange arithmetic would silently break both. (Clang defines no macro for -fassociative-math and
// -freciprocal-math alone: there they go undetected.)
#if defined(__FAST_MATH__) || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__)
#error "xsoftmax: -ffast-math and -ffinite-math-only are not supported: infinities and NaN are data (masked logits)"
#endif
#if defined(__ASSOCIATIVE_MATH__) || defined(__RECIPROCAL_MATH__)
#error                                                                                                                 \
    "xsoftmax: -fassociative-math and -freciprocal-math are not supported: the order of every sum is part of the result"
#endif

// The compiler's own binary16. (g++ before 13 has it in C++ for x86 only, but defines the macro everywhere.)
#if defined(__FLT16_MANT_DIG__) && (defined(__clang__) || __GNUC__ >= 13 || defined(__x86_64__))
#define XSOFTMAX_COMPILER_FLOAT16 _Float16
#endif

/// Forced inlining: a function that is never emitted cannot be merged by the linker with a copy built for another
/// architecture. For what does not have the architecture in its template arguments, and for what users may call.
#define XSOFTMAX_INLINE inline __attribute__((always_inline))
#define XSOFTMAX_LAMBDA __attribute__((always_inline))

/// The same for a step of a kernel: what has the architecture in its template arguments, or in those of the function
/// that it is given, so that no linker could merge it with that of another, and is called only from what is
/// XSOFTMAX_FLATTEN, as every function of a kernel is that is not a step. g++ optimises every function that is forced
/// inline by itself, and then once more at each level that it is inlined into: a chain of ten steps, ten times.
/// Flattened, the chain is put together once, which takes a quarter of the time. It leaves out what another
/// optimisation has made a copy of before, with other parameters; hence noclone. In a build that inlines nothing steps
/// are functions like others, which compiles in a tenth of the time.
#if defined(__NO_INLINE__)
#define XSOFTMAX_STEP inline
#define XSOFTMAX_STEP_LAMBDA
#define XSOFTMAX_FLATTEN
#elif defined(__GNUC__) && !defined(__clang__)
#define XSOFTMAX_STEP inline __attribute__((noclone))
#define XSOFTMAX_STEP_LAMBDA __attribute__((noclone))
#define XSOFTMAX_FLATTEN __attribute__((flatten, noclone))
#else
#define XSOFTMAX_STEP XSOFTMAX_INLINE
#define XSOFTMAX_STEP_LAMBDA XSOFTMAX_LAMBDA
#define XSOFTMAX_FLATTEN
#endif

/// Keeps a rarely taken path out of the body of its caller.
#define XSOFTMAX_NOINLINE __attribute__((noinline, cold))
