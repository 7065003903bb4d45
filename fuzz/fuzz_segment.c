/* SPDX-License-Identifier: Apache-2.0 */
/* Our Segment between control planes. See codec_kit.h. One thread. */
#include "codec_kit.h"

FUZZ_CODEC(struct xds_segment, xds_segment_decode, xds_segment_encode)
