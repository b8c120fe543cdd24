//! Compile-time assertions of the layout of all types of the ABI. Within a major version a field
//! keeps its offset; a new field is appended at the end of its list.

use std::mem::offset_of;

use super::*;

/// Asserts the offset of each field, in bytes.
macro_rules! laid_out {
    ($type:ty { $($field:ident: $offset:expr),* $(,)? }) => {
        const _: () = {
            $(assert!(offset_of!($type, $field) == $offset, concat!(stringify!($type), ".", stringify!($field)));)*
        };
    };
}

/// Asserts that a table consists of its size and then one pointer for each slot.
macro_rules! slots {
    ($type:ty { $($slot:ident),* $(,)? }) => {
        const _: () = {
            assert!(offset_of!($type, size) == 0);
            let mut _next = 8;
            $(
                assert!(offset_of!($type, $slot) == _next, concat!(stringify!($type), ".", stringify!($slot)));
                _next += 8;
            )*
            assert!(size_of::<$type>() == _next, concat!(stringify!($type), " has a slot that is not listed here"));
        };
    };
}

slots!(octopus_error_api { code, kafka_code, retriable, persisted, message, release, skipped });
slots!(octopus_string_api { view, release });
slots!(octopus_driver_api {
    create,
    create_topic,
    open_topic,
    delete_topic,
    topic_exists,
    list_topics,
    default_thread_pool,
    register_component,
    describe,
    release,
    empty_topic,
    stats,
    stats_json,
});
slots!(octopus_topic_api { name, partition_count, components, make_producer, make_consumer, release });
slots!(octopus_producer_api {
    push,
    push_many,
    flush,
    max_event_size,
    close,
    release,
    record_format,
    begin_transaction,
    commit_transaction,
    abort_transaction
});
slots!(octopus_consumer_api {
    pull,
    pull_many,
    process,
    commit,
    position,
    committed,
    lag,
    seek,
    assignment,
    unsubscribe,
    close,
    release,
});
slots!(octopus_future_api { wait, test, on_complete, event_id, partition, event, retain, release });
slots!(octopus_event_api { view, acknowledge, retain, release, attributes, header });
slots!(octopus_thread_pool_api { create, from_host, submit, pending, thread_count, release });

laid_out!(octopus_api {
    size: 0,
    abi_major: 8,
    abi_minor: 12,
    name: 16,
    version: 32,
    librdkafka_version: 48,
    built_in: 64,
    error: 80,
    string: 88,
    driver: 96,
    topic: 104,
    producer: 112,
    consumer: 120,
    future: 128,
    event: 136,
    thread_pool: 144,
});
laid_out!(octopus_text { data: 0, size: 8 });
laid_out!(octopus_bytes { data: 0, size: 8 });
laid_out!(octopus_host_services {
    size: 0,
    log: 8,
    statistics: 32,
    fatal: 56,
    rebalance: 80,
    token: 104,
    has_components: 128,
    reserved: 132,
    authorization: 136,
});
laid_out!(octopus_log_callback { function: 0, context: 8, destroy: 16 });
laid_out!(octopus_token_reply { size: 0, token: 8, accept: 16, refuse: 24 });
laid_out!(octopus_create_topic_args { size: 0, options: 8, validator: 24, selector: 40, serializer: 56 });
laid_out!(octopus_stats {
    size: 0,
    events_in_flight: 8,
    bytes_in_flight: 16,
    oldest_event_ms: 24,
    delivered: 32,
    delivered_bytes: 40,
    failed: 48,
    latency_p50_ms: 56,
    latency_p90_ms: 64,
    latency_p99_ms: 72,
    latency_max_ms: 80,
    lag: 88,
    rebalances: 96,
    retries: 104,
    request_timeouts: 112,
    sent_bytes: 120,
    received_bytes: 128,
    connects: 136,
    disconnects: 144,
    token_age_ms: 152,
    clients: 160,
    threads: 168,
    connections: 176,
    suppressed_log_lines: 184,
});
laid_out!(octopus_component_reply { size: 0, token: 8, append: 16, refuse: 24 });
laid_out!(octopus_component {
    size: 0,
    context: 8,
    destroy: 16,
    make: 24,
    destroy_instance: 32,
    validate: 40,
    select: 48,
    serialize: 56,
    deserialize: 64,
});
laid_out!(octopus_producer_args {
    size: 0,
    name: 8,
    options: 24,
    batch_size: 40,
    max_batches: 48,
    ordering: 56,
    reserved: 60,
    thread_pool: 64,
});
laid_out!(octopus_consumer_args {
    size: 0,
    name: 8,
    options: 24,
    batch_size: 40,
    max_batches: 48,
    targets: 56,
    target_count: 64,
    thread_pool: 72,
});
laid_out!(octopus_push_args {
    size: 0,
    metadata: 8,
    segments: 24,
    segment_count: 32,
    partition: 40,
    has_partition: 48,
    metadata_is_serialized: 52,
    preparation: 56,
    timeout_ms: 64,
    has_timeout: 72,
    reserved: 76,
    attributes: 80,
});
laid_out!(octopus_push_attributes {
    size: 0,
    key: 8,
    headers: 24,
    header_count: 32,
    timestamp_ms: 40,
    has_timestamp: 48,
    reserved: 52,
});
laid_out!(octopus_preparation { size: 0, context: 8, destroy: 16, prepare: 24, select: 32 });
laid_out!(octopus_event_view {
    size: 0,
    metadata: 8,
    serialized_metadata: 24,
    data: 40,
    id: 56,
    timestamp_ms: 64,
    partition: 72,
    record_format: 76,
});
laid_out!(octopus_event_attributes { size: 0, key: 8, header_count: 24, timestamp_type: 32, reserved: 36 });
laid_out!(octopus_header { name: 0, value: 16 });
laid_out!(octopus_processor { function: 0, context: 8, destroy: 16 });
laid_out!(octopus_completion { function: 0, context: 8, destroy: 16 });
laid_out!(octopus_task { function: 0, context: 8, destroy: 16 });
laid_out!(octopus_pool_functions { size: 0, context: 8, destroy: 16, submit: 24, pending: 32, thread_count: 40 });
