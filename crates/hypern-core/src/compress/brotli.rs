//! Brotli with a hash table of its own choice.
//!
//! The encoder picks its table by quality: 256 KiB and up for each of those that remember earlier events, and a stream
//! then takes 585 KiB (quality 3) to 889 KiB (quality 4). The cheap qualities 0 and 1 forget everything at a flush and
//! make events longer than they were. The table of quality 5, shrunk, is as good as the large ones within a window of
//! 16 KiB.

use brotli::Allocator;
use brotli::enc::StandardAlloc;
use brotli::enc::backward_references::{
    AdvHasher, BrotliEncoderParams, BrotliHasherParams, H5Sub, H9Opts, Struct1, UnionHasher,
};
use brotli::enc::encode::{BrotliEncoderOperation, BrotliEncoderParameter, BrotliEncoderStateStruct};

/// Of what a stream can use, the best per byte of memory: 4 and up need 240 KiB for 2 % less output.
const QUALITY: u32 = 3;
/// 2^14 bytes; the ring buffer has twice that.
const WINDOW_BITS: u32 = 14;
/// 2^11 buckets of 2^2 positions of 4 bytes: 32 KiB.
const BUCKET_BITS: i32 = 11;
const BLOCK_BITS: i32 = 2;
/// How many of the last distances are tried before the table.
const LAST_DISTANCES: i32 = 4;
/// What scratch memory may stay allocated between two writes, in bytes: that of an event, not that of a burst.
const SCRATCH: usize = 4096;
/// The same for the list of commands, in commands of 16 bytes.
const SCRATCH_COMMANDS: usize = 512;
/// Quality and window of a whole body: time is paid once and memory given back at once.
const WHOLE_QUALITY: i32 = 5;
const WHOLE_WINDOW_BITS: i32 = 22;

/// One brotli stream.
pub(super) struct Stream(BrotliEncoderStateStruct<StandardAlloc>);

impl Default for Stream {
    fn default() -> Self {
        let mut state = BrotliEncoderStateStruct::new(StandardAlloc::default());
        state.set_parameter(BrotliEncoderParameter::BROTLI_PARAM_QUALITY, QUALITY);
        state.set_parameter(BrotliEncoderParameter::BROTLI_PARAM_LGWIN, WINDOW_BITS);
        state.params.hasher = BrotliHasherParams {
            type_: 5,
            bucket_bits: BUCKET_BITS,
            block_bits: BLOCK_BITS,
            num_last_distances_to_check: LAST_DISTANCES,
            ..state.params.hasher
        };
        state.hasher_ = small_hasher(state.params.hasher);
        Self(state)
    }
}

impl Stream {
    pub(super) fn write_and_flush(&mut self, input: &[u8], out: &mut Vec<u8>) {
        self.run(BrotliEncoderOperation::BROTLI_OPERATION_FLUSH, input, out);
        self.release_scratch();
    }

    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        self.run(BrotliEncoderOperation::BROTLI_OPERATION_FINISH, &[], out);
    }

    fn run(&mut self, operation: BrotliEncoderOperation, input: &[u8], out: &mut Vec<u8>) {
        let (mut left, mut taken) = (input.len(), 0);
        // A call stops at its first output, which may be before the flush: the last call is the one without any. Output
        // stays in the encoder's own storage, because no room is offered, and is copied from there once.
        loop {
            let is_accepted = self.0.compress_stream(
                operation,
                &mut left,
                input,
                &mut taken,
                &mut 0,
                &mut [],
                &mut 0,
                &mut None,
                &mut |_, _, _, _| (),
            );
            assert!(is_accepted, "brotli takes any input until it is finished");
            if !self.0.has_more_output() {
                break;
            }
            while self.0.has_more_output() {
                let mut length = 0;
                let output = self.0.take_output(&mut length);
                out.extend_from_slice(&output[..length]);
            }
        }
    }

    /// Gives back what a large write needed, up to 14 bytes for each of its own; a flushed encoder holds nothing in it.
    fn release_scratch(&mut self) {
        if self.0.cmd_alloc_size_ > SCRATCH_COMMANDS {
            self.0.commands_ = Default::default();
            self.0.cmd_alloc_size_ = 0;
        }
        if self.0.storage_size_ > SCRATCH {
            self.0.storage_ = Default::default();
            self.0.storage_size_ = 0;
        }
    }
}

fn small_hasher(params: BrotliHasherParams) -> UnionHasher<StandardAlloc> {
    let mut allocator = StandardAlloc::default();
    UnionHasher::H5(AdvHasher {
        GetHasherCommon: Struct1 { params, is_prepared_: 1, dict_num_lookups: 0, dict_num_matches: 0 },
        specialization: H5Sub {
            hash_shift_: 32 - BUCKET_BITS,
            bucket_size_: 1 << BUCKET_BITS,
            block_mask_: (1 << BLOCK_BITS) - 1,
            block_bits_: BLOCK_BITS,
        },
        num: Allocator::<u16>::alloc_cell(&mut allocator, 1 << BUCKET_BITS),
        buckets: Allocator::<u32>::alloc_cell(&mut allocator, 1 << (BUCKET_BITS + BLOCK_BITS)),
        h9_opts: H9Opts::new(&params),
    })
}

pub(super) fn compress_whole(mut input: &[u8]) -> Vec<u8> {
    let params = BrotliEncoderParams {
        quality: WHOLE_QUALITY,
        lgwin: WHOLE_WINDOW_BITS,
        size_hint: input.len(),
        ..BrotliEncoderParams::default()
    };
    let mut out = Vec::with_capacity(input.len() / 3);
    brotli::BrotliCompress(&mut input, &mut out, &params).expect("reading and writing memory cannot fail");
    out
}
