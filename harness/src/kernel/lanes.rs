//! The few vector instructions that the tiles are made of, for three instruction sets.
//!
//! Every one of them rounds as the scalar operation does, so a tile gives the same bits whichever set computes it.
#![expect(unsafe_code, reason = "vector instructions; each impl is entered only where its instruction set was found at run time")]

use half::f16;

/// A vector of 32-bit floats.
///
/// # Safety
/// Every function needs the processor to have the instruction set that the implementing type stands for; pointers must be good for
/// [`Lanes::WIDTH`] elements, at any alignment.
pub(super) trait Lanes {
    /// The register.
    type V: Copy;
    /// Elements in it.
    const WIDTH: usize;
    /// Zeros.
    unsafe fn zero() -> Self::V;
    /// One value in every lane.
    unsafe fn splat(x: f32) -> Self::V;
    /// From memory.
    unsafe fn load(from: *const f32) -> Self::V;
    /// To memory.
    unsafe fn store(to: *mut f32, x: Self::V);
    /// `a b + c`, rounded once.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `a b`.
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    /// bfloat16 from memory, widened.
    unsafe fn load_bf16(from: *const u16) -> Self::V;
    /// Half floats from memory, widened.
    unsafe fn load_f16(from: *const u16) -> Self::V;
    /// Bytes from memory, as floats.
    unsafe fn load_i8(from: *const i8) -> Self::V;
}

/// Any processor. Correct everywhere; fast where the compiler's baseline has fused multiply-add (aarch64).
pub(super) struct Portable;

const PORTABLE: usize = 8;

impl Lanes for Portable {
    type V = [f32; PORTABLE];
    const WIDTH: usize = PORTABLE;

    #[inline(always)]
    unsafe fn zero() -> Self::V {
        [0.0; PORTABLE]
    }

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self::V {
        [x; PORTABLE]
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self::V {
        unsafe { from.cast::<Self::V>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn store(to: *mut f32, x: Self::V) {
        unsafe { to.cast::<Self::V>().write_unaligned(x) }
    }

    #[inline(always)]
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
    }

    #[inline(always)]
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i] * b[i])
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> Self::V {
        let bits = unsafe { from.cast::<[u16; PORTABLE]>().read_unaligned() };
        bits.map(|bits| f32::from_bits(u32::from(bits) << 16))
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> Self::V {
        let bits = unsafe { from.cast::<[u16; PORTABLE]>().read_unaligned() };
        bits.map(|bits| f16::from_bits(bits).to_f32())
    }

    #[inline(always)]
    unsafe fn load_i8(from: *const i8) -> Self::V {
        let bytes = unsafe { from.cast::<[i8; PORTABLE]>().read_unaligned() };
        bytes.map(f32::from)
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    #[cfg_attr(not(test), expect(clippy::wildcard_imports, reason = "a list of intrinsics tells nobody anything"))]
    use std::arch::x86_64::*;

    use super::Lanes;

    /// AVX2 with FMA and F16C.
    pub(in super::super) struct Avx2;

    impl Lanes for Avx2 {
        type V = __m256;
        const WIDTH: usize = 8;

        #[inline(always)]
        unsafe fn zero() -> Self::V {
            unsafe { _mm256_setzero_ps() }
        }

        #[inline(always)]
        unsafe fn splat(x: f32) -> Self::V {
            unsafe { _mm256_set1_ps(x) }
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self::V {
            unsafe { _mm256_loadu_ps(from) }
        }

        #[inline(always)]
        unsafe fn store(to: *mut f32, x: Self::V) {
            unsafe { _mm256_storeu_ps(to, x) }
        }

        #[inline(always)]
        unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
            unsafe { _mm256_fmadd_ps(a, b, c) }
        }

        #[inline(always)]
        unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
            unsafe { _mm256_mul_ps(a, b) }
        }

        #[inline(always)]
        unsafe fn load_bf16(from: *const u16) -> Self::V {
            unsafe { _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast())))) }
        }

        #[inline(always)]
        unsafe fn load_f16(from: *const u16) -> Self::V {
            unsafe { _mm256_cvtph_ps(_mm_loadu_si128(from.cast())) }
        }

        #[inline(always)]
        unsafe fn load_i8(from: *const i8) -> Self::V {
            unsafe { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(from.cast()))) }
        }
    }

    /// AVX-512 Foundation.
    pub(in super::super) struct Avx512;

    impl Lanes for Avx512 {
        type V = __m512;
        const WIDTH: usize = 16;

        #[inline(always)]
        unsafe fn zero() -> Self::V {
            unsafe { _mm512_setzero_ps() }
        }

        #[inline(always)]
        unsafe fn splat(x: f32) -> Self::V {
            unsafe { _mm512_set1_ps(x) }
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self::V {
            unsafe { _mm512_loadu_ps(from) }
        }

        #[inline(always)]
        unsafe fn store(to: *mut f32, x: Self::V) {
            unsafe { _mm512_storeu_ps(to, x) }
        }

        #[inline(always)]
        unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
            unsafe { _mm512_fmadd_ps(a, b, c) }
        }

        #[inline(always)]
        unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
            unsafe { _mm512_mul_ps(a, b) }
        }

        #[inline(always)]
        unsafe fn load_bf16(from: *const u16) -> Self::V {
            unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast())))) }
        }

        #[inline(always)]
        unsafe fn load_f16(from: *const u16) -> Self::V {
            unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
        }

        #[inline(always)]
        unsafe fn load_i8(from: *const i8) -> Self::V {
            unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.cast()))) }
        }
    }
}
