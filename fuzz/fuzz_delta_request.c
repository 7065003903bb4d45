/* SPDX-License-Identifier: Apache-2.0 */
/* DeltaDiscoveryRequest, from any client that reaches the port. See codec_kit.h. One thread. */
#include "codec_kit.h"

FUZZ_CODEC(struct xds_delta_request, xds_delta_request_decode, xds_delta_request_encode)
