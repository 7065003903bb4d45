/* SPDX-License-Identifier: Apache-2.0 */
/* Our FederatedService between control planes. See codec_kit.h. One thread. */
#include "codec_kit.h"

FUZZ_CODEC(struct xds_fed_service, xds_fed_service_decode, xds_fed_service_encode)
