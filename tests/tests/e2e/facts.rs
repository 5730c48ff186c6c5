//! AF_VSOCK as the kernel has it, on which the design rests, and what the proxies make of it.
//!
//! Only where AF_VSOCK is real, and on each of the lab's kernels (see `tests/tests/vm.rs`): Debian's
//! 6.1, of which 6.1.192 was seen, and its 6.12, of which 6.12.95 was seen. All facts are the same
//! on both but V6.
//!
//! | fact | the kernel | the proxies |
//! |---|---|---|
//! | V1: however a peer vanishes, a clean end is read; a send of no bytes tells | `closing` | `relay::connections_die_with_*` |
//! | V2: ECONNRESET, ETIMEDOUT, ENODEV: not ready | `connecting`; ENODEV in `tests/lab/selftest` | `enclave::a_restart_of_outproxy_is_not_noticed` |
//! | V3: a full backlog resets | `connecting` | `proxies::a_thousand_connections_may_wait` |
//! | V4: connect(2) waits 2 s | `connecting` | `connecting` |
//! | V5: connected before it is accepted | `connecting` | `enclave::an_outproxy_that_stays_away_is_a_reset` |
//! | V6: a stalled reader loses small packets | `buffers` | `stalls` |
//! | V7: a buffer for each packet, however small | not here: Linux before 5.4 | `proxies::single_bytes_travel_together` |
//! | V8: writes over 32 KiB are corrupted | not here: some VMMs | `buffers::one_write_is_capped` |
//! | V9: a close after the last write loses it | not here: Nitro | `proxies::a_refusal_waits_for_its_reader` |
//! | V10: after EPIPE, what the peer had sent is there | `closing` | `scripts` |
//! | V11: ports below 1024; `/dev/vsock` | `connecting` | `connecting` |
//! | V12: a port has one listener, and is free after a kill | `connecting` | `enclave::a_restart_of_outproxy_is_not_noticed` |
//! | V13: EMFILE leaves connections queued | `connecting` | `proxies::accepting_waits_for_descriptors_and_loses_nobody` |
//! | V14: no keepalive; a slow close(2) | `closing`; the close not here: it needs a mute peer | `limits::an_idle_connection_ends_in_a_reset` |
//! | V15: loopback is CID 1 | `connecting` | `policy::an_enclave_reaches_only_what_a_rule_with_its_cid_lists` |
//! | V16: other CIDs cannot be bound | `connecting` | `connecting` |
//! | V17: throughput grows with the window | `buffers` | `proxies::both_take_a_mebibyte_ahead` |
//! | V18: idle connections are small | `buffers` | `limits::an_idle_tunnel_takes_little_memory` |

pub(crate) mod buffers;
pub(crate) mod closing;
pub(crate) mod connecting;
pub(crate) mod proxies;
pub(crate) mod stalls;
