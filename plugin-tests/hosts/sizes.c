/*
 * A host built with an older or a newer header: its structs are shorter or longer than those of the
 * plugin.
 */

#include "abi_misuse.h"

#include <sys/mman.h>
#include <unistd.h>

/*
 * Copies the first `size` bytes of a struct to the end of a page that is followed by an
 * inaccessible one, so that a read or write beyond them crashes. Sets its size field to
 * `size_field`. The next call reuses the memory.
 */
static void *at_the_edge(const void *from, size_t size, uint64_t size_field)
{
    static char *page;
    size_t page_size = (size_t)sysconf(_SC_PAGESIZE);
    if (!page) {
        page = mmap(NULL, 2 * page_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                    0);
        EXPECT(page != MAP_FAILED && mprotect(page + page_size, page_size, PROT_NONE) == 0);
    }
    memset(page, FILL_BYTE, page_size);
    char *start = page + page_size - (size + 7) / 8 * 8; /* structs are aligned */
    memcpy(start, from, size);
    memcpy(start, &size_field, sizeof size_field);
    return start;
}

/* Uses a struct that the host fills, and releases the result at once. */
typedef octopus_status use_function(const struct fixture *fixture, const void *args,
                                    octopus_error **error);

static octopus_status use_services(const struct fixture *fixture, const void *args,
                                   octopus_error **error)
{
    (void)fixture;
    octopus_driver *driver = NULL;
    octopus_status status = octopus->driver->create(text("{\"embedded\":{}}"), args, &driver,
                                                    error);
    octopus->driver->release(driver);
    return status;
}

static octopus_status use_topic_args(const struct fixture *fixture, const void *args,
                                     octopus_error **error)
{
    static int count;
    char name[32];
    snprintf(name, sizeof name, "sizes-%d", count++);
    return octopus->driver->create_topic(fixture->driver, text(name), args, error);
}

static octopus_status use_producer_args(const struct fixture *fixture, const void *args,
                                        octopus_error **error)
{
    octopus_producer *producer = NULL;
    octopus_status status = octopus->topic->make_producer(fixture->topic, args, &producer, error);
    octopus->producer->release(producer);
    return status;
}

static octopus_status use_consumer_args(const struct fixture *fixture, const void *args,
                                        octopus_error **error)
{
    octopus_consumer *consumer = NULL;
    octopus_status status = octopus->topic->make_consumer(fixture->topic, args, &consumer, error);
    octopus->consumer->release(consumer);
    return status;
}

static octopus_status use_push_args(const struct fixture *fixture, const void *args,
                                    octopus_error **error)
{
    return octopus->producer->push(fixture->producer, args, NULL, error);
}

static octopus_status use_component(const struct fixture *fixture, const void *args,
                                    octopus_error **error)
{
    static int count; /* a type can be registered once */
    char name[32];
    snprintf(name, sizeof name, "sizes-%d", count++);
    return octopus->driver->register_component(fixture->driver, OCTOPUS_ROLE_VALIDATOR, text(name),
                                               args, error);
}

static octopus_status use_pool_functions(const struct fixture *fixture, const void *args,
                                         octopus_error **error)
{
    (void)fixture;
    octopus_thread_pool *pool = NULL;
    octopus_status status = octopus->thread_pool->from_host(args, &pool, error);
    octopus->thread_pool->release(pool);
    return status;
}

static octopus_status make_instance(void *context, octopus_text json, void **instance,
                                    const octopus_component_reply *reply)
{
    (void)context, (void)json, (void)reply;
    *instance = NULL;
    return OCTOPUS_OK;
}

static octopus_status accept_event(void *instance, octopus_text metadata,
                                   const octopus_bytes *segments, uint64_t segment_count,
                                   const octopus_component_reply *reply)
{
    (void)instance, (void)metadata, (void)segments, (void)segment_count, (void)reply;
    return OCTOPUS_OK;
}

/* `ends` has the offsets at which the fields of the struct end. With at most `too_few` fields it
 * must be rejected. */
static void use_with_any_size(const struct fixture *fixture, use_function *use, const void *filled,
                              const size_t *ends, size_t too_few)
{
    size_t whole = 0;
    for (uint64_t size_field = 0; size_field < sizeof size_field; size_field++)
        RETURNS(OCTOPUS_INVALID_ARGUMENT,
                use(fixture, at_the_edge(filled, sizeof size_field, size_field), error));
    for (size_t at = 0; ends[at] != 0; at++) {
        whole = ends[at];
        if (at < too_few)
            RETURNS(OCTOPUS_INVALID_ARGUMENT,
                    use(fixture, at_the_edge(filled, whole, whole), error));
        else
            SUCCEEDS(use(fixture, at_the_edge(filled, whole, whole), error));
    }
    /* A host whose header has more fields than the plugin's. */
    uint64_t newer[64];
    memset(newer, FILL_BYTE, sizeof newer);
    memcpy(newer, filled, whole);
    newer[0] = sizeof newer;
    SUCCEEDS(use(fixture, newer, error));
    /* The size claims even more fields, which are inaccessible: the plugin must not read them. */
    SUCCEEDS(use(fixture, at_the_edge(filled, whole, UINT64_MAX), error));
}

static void check_sizes_of_services(void)
{
    static struct context_counter
        log; /* shared by several drivers, so not one of context_counters */
    octopus_host_services services = {
        .size = sizeof services,
        .log = {.function = read_message, .context = &log, .destroy = count_destroyed},
    };
    /* The plugin must destroy a context that it has read, even if it creates no driver. */
    RETURNS(OCTOPUS_INVALID_CONFIGURATION,
            octopus->driver->create(text("{}"), &services, &out.driver, error));
    RETURNS(OCTOPUS_INVALID_ARGUMENT,
            octopus->driver->create(text("{\"embedded\":{}}"), &services, NULL, error));
    EXPECT(atomic_load(&log.destroyed) == 4);

    const size_t ends[] = {8, 32, 56, 80, 104, 128, 132, 136, 160, 0};
    use_with_any_size(NULL, use_services, &services, ends, 0);
    await_destroyed(
        &log, 4 + 10,
        HERE); /* of each of these drivers except the one whose struct ends before `log` */
}

static void check_sizes_of_args(const struct fixture *fixture)
{
    const octopus_text object = OCTOPUS_TEXT("{}");
    const octopus_create_topic_args topic = {0, object, object, object, object};
    const size_t topic_ends[] = {8, 24, 40, 56, 72, 0};
    use_with_any_size(fixture, use_topic_args, &topic, topic_ends, 0);

    const octopus_producer_args producer = {
        .name = OCTOPUS_TEXT("sizes"), .options = object, .batch_size = 10};
    const size_t producer_ends[] = {8, 24, 40, 48, 56, 60, 64, 72, 0};
    use_with_any_size(fixture, use_producer_args, &producer, producer_ends, 0);

    const octopus_consumer_args consumer = {
        .name = OCTOPUS_TEXT("sizes"), .options = object, .batch_size = 10};
    const size_t consumer_ends[] = {8, 24, 40, 48, 56, 64, 72, 80, 0};
    use_with_any_size(fixture, use_consumer_args, &consumer, consumer_ends,
                      1); /* a consumer needs a name */

    if (OCTOPUS_HAS(octopus->driver, register_component)) {
        const octopus_component component = {
            .make = make_instance, .destroy_instance = do_nothing, .validate = accept_event};
        const size_t component_ends[] = {sizeof component, 0};
        use_with_any_size(fixture, use_component, &component, component_ends, 0);
    }
    if (OCTOPUS_HAS(octopus->thread_pool, from_host)) {
        const octopus_pool_functions functions = {
            .submit = reject_task, .pending = return_zero, .thread_count = return_zero};
        const size_t functions_ends[] = {sizeof functions, 0};
        use_with_any_size(fixture, use_pool_functions, &functions, functions_ends, 0);
    }
}

static void check_sizes_of_push_args(const struct fixture *fixture)
{
    const octopus_bytes data = bytes("data");
    const octopus_push_args event = {.metadata = bytes("\"metadata\""),
                                     .segments = &data,
                                     .segment_count = 1,
                                     .has_partition = 1};
    const size_t ends[] = {8, 24, 32, 40, 48, 52, 56, 64, 72, 76, 80, 88, 0};
    use_with_any_size(fixture, use_push_args, &event, ends, 0);

    /* The events of older hosts lack the fields that they don't know; those of newer hosts are
     * complete. */
    for (size_t at = 0; at < sizeof ends / sizeof *ends - 1 + 2; at++) {
        octopus_future *pending = pull(fixture->consumer);
        octopus_event *read = event_of(pending);
        check_event(read, at < 1 ? "{}" : "\"metadata\"", at < 3 ? "" : "data");
        octopus->event->release(read);
        octopus->future->release(pending);
    }
}

static octopus_status use_push_attributes(const struct fixture *fixture, const void *attributes,
                                          octopus_error **error)
{
    octopus_push_args event = {.size = sizeof event, .attributes = attributes};
    return octopus->producer->push(fixture->producer, &event, NULL, error);
}

static void check_sizes_of_push_attributes(const struct fixture *fixture)
{
    const octopus_header header = {text("name"), bytes("value")};
    const octopus_push_attributes attributes = {.size = sizeof attributes,
                                                .key = bytes("key"),
                                                .headers = &header,
                                                .header_count = 1,
                                                .timestamp_ms = 1,
                                                .has_timestamp = 1};
    /* The pointer to the headers and their number come together. */
    const size_t ends[] = {8, 24, 40, 48, 52, 56, 0};
    use_with_any_size(fixture, use_push_attributes, &attributes, ends, 0);
    for (size_t at = 0; at < sizeof ends / sizeof *ends - 1 + 2; at++) {
        octopus_future *pending = pull(fixture->consumer);
        octopus_event *read = event_of(pending);
        octopus_event_attributes found = {.size = sizeof found};
        octopus_header read_header;
        SUCCEEDS(octopus->event->attributes(read, &found, error));
        EXPECT(at < 1 ? !found.key.data : is("key", found.key.data, found.key.size));
        EXPECT(found.header_count == (at < 2 ? 0 : 1));
        if (found.header_count == 1) {
            SUCCEEDS(octopus->event->header(read, 0, &read_header, error));
            EXPECT(is("name", read_header.name.data, read_header.name.size) &&
                   is("value", read_header.value.data, read_header.value.size));
        }
        RETURNS(OCTOPUS_INVALID_ARGUMENT,
                octopus->event->header(read, found.header_count, &read_header, error));
        octopus->event->release(read);
        octopus->future->release(pending);
    }
}

static void check_sizes_of_event_attributes(const struct fixture *fixture)
{
    octopus_event_attributes whole = {.size = sizeof whole};
    SUCCEEDS(octopus->event->attributes(fixture->event, &whole, error));
    uint64_t untouched[16];
    memset(untouched, FILL_BYTE, sizeof untouched);
    RETURNS(OCTOPUS_INVALID_ARGUMENT,
            octopus->event->attributes(fixture->event, at_the_edge(untouched, 8, 0), error));
    for (size_t size = sizeof(uint64_t); size <= sizeof whole; size += 4) {
        octopus_event_attributes *read = at_the_edge(untouched, size, size);
        SUCCEEDS(octopus->event->attributes(fixture->event, read, error));
        EXPECT(memcmp((char *)read + 8, (char *)&whole + 8, size - 8) == 0);
        EXPECT(size % 8 == 0 || is_unwritten((char *)read + size, 8 - size % 8));
    }
}

static void check_sizes_of_stats(const struct fixture *fixture)
{
    uint64_t untouched[64];
    memset(untouched, FILL_BYTE, sizeof untouched);
    RETURNS(OCTOPUS_INVALID_ARGUMENT,
            octopus->driver->stats(fixture->driver, at_the_edge(untouched, 8, 7), error));
    for (size_t size = sizeof(uint64_t); size <= sizeof(octopus_stats); size += 4) {
        octopus_stats *stats = at_the_edge(untouched, size, size);
        SUCCEEDS(octopus->driver->stats(fixture->driver, stats, error));
        EXPECT(stats->size == size);
        EXPECT(size % 8 == 0 || is_unwritten((char *)stats + size, 8 - size % 8));
    }
}

static void check_sizes_of_view(const struct fixture *fixture)
{
    octopus_event_view whole = {.size = sizeof whole};
    SUCCEEDS(octopus->event->view(fixture->event, &whole, error));

    uint64_t space[64], untouched[64];
    memset(untouched, FILL_BYTE, sizeof untouched);
    for (uint64_t size_field = 0; size_field < sizeof size_field; size_field++)
        RETURNS(OCTOPUS_INVALID_ARGUMENT,
                octopus->event->view(fixture->event, at_the_edge(untouched, 8, size_field), error));
    for (size_t size_field = sizeof(uint64_t); size_field <= sizeof whole; size_field += 4) {
        octopus_event_view *view = at_the_edge(untouched, size_field, size_field);
        SUCCEEDS(octopus->event->view(fixture->event, view, error));
        EXPECT(view->size == size_field);
        EXPECT(memcmp((char *)view + 8, (char *)&whole + 8, size_field - 8) == 0);
        EXPECT(size_field % 8 == 0 || is_unwritten((char *)view + size_field, 8 - size_field % 8));
    }
    memcpy(space, untouched, sizeof space);
    space[0] = sizeof space;
    SUCCEEDS(octopus->event->view(fixture->event, (octopus_event_view *)space, error));
    EXPECT(space[0] == sizeof space);
    EXPECT(memcmp((char *)space + 8, (char *)&whole + 8, sizeof whole - 8) == 0);
    EXPECT(memcmp((char *)space + sizeof whole, untouched, sizeof space - sizeof whole) == 0);
    SUCCEEDS(octopus->event->view(fixture->event, at_the_edge(untouched, sizeof whole, UINT64_MAX),
                                  error));
}

static void pass_structs_of_any_size(void)
{
    struct fixture fixture = new_fixture("sizes", "a first event");
    check_sizes_of_services();
    check_sizes_of_args(&fixture);
    check_sizes_of_push_args(&fixture);
    check_sizes_of_push_attributes(&fixture);
    check_sizes_of_view(&fixture);
    check_sizes_of_stats(&fixture);
    check_sizes_of_event_attributes(&fixture);
    release_fixture(&fixture);
    printf("structs are read and written up to the smaller of both sizes; size 0 is rejected\n");
}

int main(int argc, char **argv) { return run_all(argc, argv, pass_structs_of_any_size); }
