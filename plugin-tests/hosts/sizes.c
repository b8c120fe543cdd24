/*
 * An older and a newer host: structs that are shorter or longer than the plugin knows them.
 */

#include "strangers.h"

#include <sys/mman.h>
#include <unistd.h>

/*
 * A copy of a struct's first `size` bytes at the end of the memory that may be touched, so that whoever reads or
 * writes beyond them crashes. Its size field says `says`. The memory is used again by the next call.
 */
static void *at_the_edge(const void *from, size_t size, uint64_t says)
{
    static char *page;
    size_t page_size = (size_t)sysconf(_SC_PAGESIZE);
    if (!page) {
        page = mmap(NULL, 2 * page_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        EXPECT(page != MAP_FAILED && mprotect(page + page_size, page_size, PROT_NONE) == 0);
    }
    memset(page, RUBBISH_BYTE, page_size);
    char *start = page + page_size - (size + 7) / 8 * 8; /* structs are aligned */
    memcpy(start, from, size);
    memcpy(start, &says, sizeof says);
    return start;
}

/* One way to use a struct that a host fills. What comes of it is released at once. */
typedef octopus_status use_fn(const struct scene *scene, const void *args, octopus_error **error);

static octopus_status use_services(const struct scene *scene, const void *args, octopus_error **error)
{
    (void)scene;
    octopus_driver *driver = NULL;
    octopus_status status = octopus->driver->create(text("{\"embedded\":{}}"), args, &driver, error);
    octopus->driver->release(driver);
    return status;
}

static octopus_status use_topic_args(const struct scene *scene, const void *args, octopus_error **error)
{
    static int count;
    char name[32];
    snprintf(name, sizeof name, "sizes-%d", count++);
    return octopus->driver->create_topic(scene->driver, text(name), args, error);
}

static octopus_status use_producer_args(const struct scene *scene, const void *args, octopus_error **error)
{
    octopus_producer *producer = NULL;
    octopus_status status = octopus->topic->make_producer(scene->topic, args, &producer, error);
    octopus->producer->release(producer);
    return status;
}

static octopus_status use_consumer_args(const struct scene *scene, const void *args, octopus_error **error)
{
    octopus_consumer *consumer = NULL;
    octopus_status status = octopus->topic->make_consumer(scene->topic, args, &consumer, error);
    octopus->consumer->release(consumer);
    return status;
}

static octopus_status use_push_args(const struct scene *scene, const void *args, octopus_error **error)
{
    return octopus->producer->push(scene->producer, args, NULL, error);
}

static octopus_status use_component(const struct scene *scene, const void *args, octopus_error **error)
{
    static int count; /* a type can be registered once */
    char name[32];
    snprintf(name, sizeof name, "sizes-%d", count++);
    return octopus->driver->register_component(scene->driver, OCTOPUS_ROLE_VALIDATOR, text(name), args, error);
}

static octopus_status use_pool_functions(const struct scene *scene, const void *args, octopus_error **error)
{
    (void)scene;
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

static octopus_status accept_event(void *instance, octopus_text metadata, const octopus_bytes *segments,
                                   uint64_t segment_count, const octopus_component_reply *reply)
{
    (void)instance, (void)metadata, (void)segments, (void)segment_count, (void)reply;
    return OCTOPUS_OK;
}

/* `ends`: where the fields of a struct end, of which the first `too_few` are not enough to be accepted. */
static void use_with_any_size(const struct scene *scene, use_fn *use, const void *filled, const size_t *ends,
                              size_t too_few)
{
    size_t whole = 0;
    for (uint64_t says = 0; says < sizeof says; says++)
        GIVES(OCTOPUS_INVALID_ARGUMENT, use(scene, at_the_edge(filled, sizeof says, says), error));
    for (size_t at = 0; ends[at] != 0; at++) {
        whole = ends[at];
        if (at < too_few)
            GIVES(OCTOPUS_INVALID_ARGUMENT, use(scene, at_the_edge(filled, whole, whole), error));
        else
            SUCCEEDS(use(scene, at_the_edge(filled, whole, whole), error));
    }
    /* A host that knows more fields than the plugin does. */
    uint64_t newer[64];
    memset(newer, RUBBISH_BYTE, sizeof newer);
    memcpy(newer, filled, whole);
    newer[0] = sizeof newer;
    SUCCEEDS(use(scene, newer, error));
    /* One that knows even more, but none of it is there: the plugin must not look. */
    SUCCEEDS(use(scene, at_the_edge(filled, whole, UINT64_MAX), error));
}

static void check_sizes_of_services(void)
{
    static struct witness log; /* of several drivers, so counted here */
    octopus_host_services services = {
        .size = sizeof services,
        .log = {.function = read_message, .context = &log, .destroy = note_destroyed},
    };
    /* A context that the plugin has read is the plugin's to destroy, also when no driver comes of it. */
    GIVES(OCTOPUS_INVALID_CONFIGURATION, octopus->driver->create(text("{}"), &services, &out.driver, error));
    GIVES(OCTOPUS_INVALID_ARGUMENT, octopus->driver->create(text("{\"embedded\":{}}"), &services, NULL, error));
    EXPECT(atomic_load(&log.destroyed) == 4);

    const size_t ends[] = {8, 32, 56, 80, 104, 128, 132, 136, 160, 0};
    use_with_any_size(NULL, use_services, &services, ends, 0);
    await_count(&log, 4 + 10, HERE); /* all of these drivers but the one whose struct ended before the log */
}

static void check_sizes_of_args(const struct scene *scene)
{
    const octopus_text object = OCTOPUS_TEXT("{}");
    const octopus_create_topic_args topic = {0, object, object, object, object};
    const size_t topic_ends[] = {8, 24, 40, 56, 72, 0};
    use_with_any_size(scene, use_topic_args, &topic, topic_ends, 0);

    const octopus_producer_args producer = {.name = OCTOPUS_TEXT("sizes"), .options = object, .batch_size = 10};
    const size_t producer_ends[] = {8, 24, 40, 48, 56, 60, 64, 72, 0};
    use_with_any_size(scene, use_producer_args, &producer, producer_ends, 0);

    const octopus_consumer_args consumer = {.name = OCTOPUS_TEXT("sizes"), .options = object, .batch_size = 10};
    const size_t consumer_ends[] = {8, 24, 40, 48, 56, 64, 72, 80, 0};
    use_with_any_size(scene, use_consumer_args, &consumer, consumer_ends, 1); /* a consumer needs a name */

    if (OCTOPUS_HAS(octopus->driver, register_component)) {
        const octopus_component component = {
            .make = make_instance, .destroy_instance = do_nothing, .validate = accept_event};
        const size_t component_ends[] = {sizeof component, 0};
        use_with_any_size(scene, use_component, &component, component_ends, 0);
    }
    if (OCTOPUS_HAS(octopus->thread_pool, from_host)) {
        const octopus_pool_functions functions = {.submit = refuse_task, .pending = none, .thread_count = none};
        const size_t functions_ends[] = {sizeof functions, 0};
        use_with_any_size(scene, use_pool_functions, &functions, functions_ends, 0);
    }
}

static void check_sizes_of_push_args(const struct scene *scene)
{
    const octopus_bytes data = bytes("data");
    const octopus_push_args event = {
        .metadata = bytes("\"metadata\""), .segments = &data, .segment_count = 1, .has_partition = 1};
    const size_t ends[] = {8, 24, 32, 40, 48, 52, 56, 64, 0};
    use_with_any_size(scene, use_push_args, &event, ends, 0);

    /* What an older host does not know is missing from its events; those of newer ones are like the whole one. */
    for (size_t at = 0; at < sizeof ends / sizeof *ends - 1 + 2; at++) {
        octopus_future *ticket = pull(scene->consumer);
        octopus_event *read = event_of(ticket);
        check_event(read, at < 1 ? "{}" : "\"metadata\"", at < 3 ? "" : "data");
        octopus->event->release(read);
        octopus->future->release(ticket);
    }
}

static void check_sizes_of_view(const struct scene *scene)
{
    octopus_event_view whole = {.size = sizeof whole};
    SUCCEEDS(octopus->event->view(scene->event, &whole, error));

    uint64_t room[64], untouched[64];
    memset(untouched, RUBBISH_BYTE, sizeof untouched);
    for (uint64_t says = 0; says < sizeof says; says++)
        GIVES(OCTOPUS_INVALID_ARGUMENT, octopus->event->view(scene->event, at_the_edge(untouched, 8, says), error));
    for (size_t says = sizeof(uint64_t); says <= sizeof whole; says += 4) {
        octopus_event_view *view = at_the_edge(untouched, says, says);
        SUCCEEDS(octopus->event->view(scene->event, view, error));
        EXPECT(view->size == says);
        EXPECT(memcmp((char *)view + 8, (char *)&whole + 8, says - 8) == 0);
        EXPECT(says % 8 == 0 || only_rubbish((char *)view + says, 8 - says % 8));
    }
    memcpy(room, untouched, sizeof room);
    room[0] = sizeof room;
    SUCCEEDS(octopus->event->view(scene->event, (octopus_event_view *)room, error));
    EXPECT(room[0] == sizeof room);
    EXPECT(memcmp((char *)room + 8, (char *)&whole + 8, sizeof whole - 8) == 0);
    EXPECT(memcmp((char *)room + sizeof whole, untouched, sizeof room - sizeof whole) == 0);
    SUCCEEDS(octopus->event->view(scene->event, at_the_edge(untouched, sizeof whole, UINT64_MAX), error));
}

static void give_structs_of_any_size(void)
{
    struct scene scene = new_scene("sizes", "a first event");
    check_sizes_of_services();
    check_sizes_of_args(&scene);
    check_sizes_of_push_args(&scene);
    check_sizes_of_view(&scene);
    release_scene(&scene);
    printf("structs are read and written as far as they and the plugin reach; of size 0 they are refused\n");
}


int main(int argc, char **argv)
{
    return run_all(argc, argv, give_structs_of_any_size);
}
