/* SPDX-License-Identifier: Apache-2.0 */
/* IstioCertificateRequest, from any client that reaches the port. See codec_kit.h. One thread. */
#include "codec_kit.h"

FUZZ_CODEC(struct xds_csr_request, xds_csr_request_decode, xds_csr_request_encode)
