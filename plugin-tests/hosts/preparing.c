/*
 * A host that prepares its events itself (octopus_preparation). The plugin destroys each
 * preparation once, whether the push succeeds, fails or is rejected. Uses the embedded Kafka.
 *
 *     cc -std=c11 -I include -o preparing plugin-tests/hosts/preparing.c -pthread -ldl
 *     ./preparing target/release/liboctopus.so
 */

#define _DEFAULT_SOURCE /* for nanosleep */

#include "host.h"

#include <stdatomic.h>
#include <time.h>

enum { TIMEOUT_MS = 60000, MANY = 4 };

static const octopus_api *octopus;
static octopus_producer *producer;
static atomic_int prepared, destroyed, ended;

static octopus_status prepare(void *context, const octopus_bytes *segments, uint64_t count,
                              const octopus_component_reply *reply)
{
    static const uint8_t metadata[] = "\2\0\0\0\0\0\0\0{}";
    (void)segments;
    EXPECT(context == &prepared && count <= 1);
    atomic_fetch_add(&prepared, 1);
    reply->append(reply->token, (octopus_bytes){metadata, sizeof metadata - 1});
    return OCTOPUS_OK;
}

static void destroy(void *context)
{
    EXPECT(context == &prepared);
    atomic_fetch_add(&destroyed, 1);
}

/* Pushes the events, waits for those that were queued, and returns their number. */
static uint64_t push_many(const octopus_push_args *events, uint64_t count, octopus_status expected,
                          const char *named)
{
    octopus_future *futures[MANY] = {NULL};
    octopus_error *error;
    uint64_t pushed = 0;
    const octopus_status status = octopus->producer->push_many(producer, events, count, futures,
                                                               &pushed, &error);
    const octopus_text why = octopus->error->message(error);
    char message[512] = "";
    memcpy(message, why.size ? why.data : "",
           why.size < sizeof message ? why.size : sizeof message - 1);
    octopus->error->release(error);
    if (status != expected || !strstr(message, named))
        fprintf(stderr, "status %d: %s\n", status, message);
    EXPECT(status == expected && strstr(message, named));
    for (uint64_t index = 0; index < pushed; index++) {
        EXPECT(octopus->future->wait(futures[index], TIMEOUT_MS, NULL) == OCTOPUS_OK);
        octopus->future->release(futures[index]);
    }
    return pushed;
}

/* Checks how many preparations were run and destroyed since the previous call. */
static void expect_counts(int line, int were_prepared, int were_destroyed)
{
    const int now_prepared = atomic_exchange(&prepared, 0),
              now_destroyed = atomic_exchange(&destroyed, 0);
    if (now_prepared != were_prepared || now_destroyed != were_destroyed)
        fprintf(stderr, "%d prepared, %d destroyed\n", now_prepared, now_destroyed);
    expect(now_prepared == were_prepared && now_destroyed == were_destroyed, "the counts", __FILE__,
           line);
}
#define EXPECT_COUNTS(prepared, destroyed) expect_counts(__LINE__, prepared, destroyed)

static void push_all_variants(octopus_thread_pool *pool, octopus_topic *topic)
{
    const octopus_preparation whole = {
        .size = sizeof whole, .context = &prepared, .destroy = destroy, .prepare = prepare};
    octopus_preparation functionless = whole, sizeless = whole;
    functionless.prepare = NULL;
    sizeless.size = 0;
    const octopus_push_args good = {.size = sizeof good, .preparation = &whole};
    octopus_push_args with_metadata = good, without_function = good, without_size = good,
                      null_segment = good;
    const octopus_bytes null_bytes = {NULL, 3};
    with_metadata.metadata = (octopus_bytes){(const uint8_t *)"{}", 2};
    without_function.preparation = &functionless;
    without_size.preparation = &sizeless;
    null_segment.segments = &null_bytes;
    null_segment.segment_count = 1;
    octopus_producer_args args = {.size = sizeof args, .thread_pool = pool};
    octopus_producer *own;
    EXPECT(octopus->topic->make_producer(topic, &args, &own, NULL) == OCTOPUS_OK);
    producer = own;

    EXPECT(push_many(&good, 1, OCTOPUS_OK, "") == 1);
    EXPECT_COUNTS(1, 1);
    EXPECT(push_many((octopus_push_args[]){good, with_metadata, good, good}, 4,
                     OCTOPUS_INVALID_ARGUMENT, "event.metadata") == 1);
    EXPECT_COUNTS(1, 4);
    EXPECT(push_many((octopus_push_args[]){null_segment, good}, 2, OCTOPUS_INVALID_ARGUMENT,
                     "event.segments") == 0);
    EXPECT_COUNTS(0, 2);
    EXPECT(push_many((octopus_push_args[]){without_function, good}, 2, OCTOPUS_INVALID_ARGUMENT,
                     "prepare: NULL") == 0);
    EXPECT_COUNTS(0, 2);
    EXPECT(push_many((octopus_push_args[]){without_size, good}, 2, OCTOPUS_INVALID_ARGUMENT,
                     "its size is 0") == 0);
    EXPECT_COUNTS(0, 1); /* a preparation of size 0 can't be read, so its `destroy` is unknown */

    producer = NULL;
    EXPECT(push_many((octopus_push_args[]){good, good}, 2, OCTOPUS_INVALID_ARGUMENT, "NULL") == 0);
    EXPECT_COUNTS(0, 2);
    producer = own;
    EXPECT(octopus->producer->push_many(producer, &good, 1, NULL, NULL, NULL) ==
           OCTOPUS_INVALID_ARGUMENT);
    EXPECT(octopus->producer->push(NULL, &good, NULL, NULL) == OCTOPUS_INVALID_ARGUMENT);
    EXPECT_COUNTS(0, 2);

    EXPECT(octopus->producer->close(producer, TIMEOUT_MS, NULL) == OCTOPUS_OK);
    EXPECT(octopus->producer->push(producer, &good, NULL, NULL) == OCTOPUS_CLOSED);
    EXPECT(push_many((octopus_push_args[]){good, good}, 2, OCTOPUS_CLOSED, "") == 0);
    EXPECT_COUNTS(0, 3);
    octopus->producer->release(producer);
}

static void ignore_fatal(void *context, octopus_text client, int32_t code, octopus_text message)
{
    (void)context, (void)client, (void)code, (void)message;
}

static void end(void *context) { atomic_store((atomic_int *)context, 1); }

/* Clients end in the background, and a leak checker would report what they still hold. */
static void await_end(void)
{
    const struct timespec moment = {.tv_nsec = 10000000};
    for (int waits = 0; waits < TIMEOUT_MS / 10 && !atomic_load(&ended); waits++)
        nanosleep(&moment, NULL);
    EXPECT(atomic_load(&ended));
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return fprintf(stderr, "usage: %s LIBRARY\n", argv[0]), 1;
    octopus = load(argv[1]);
    const octopus_host_services services = {
        .size = sizeof services,
        .fatal = {.function = ignore_fatal, .context = &ended, .destroy = end}};
    octopus_driver *driver = make_driver(octopus, "{\"embedded\": {}}", &services);
    octopus_topic *topic = make_topic(octopus, driver, "own");
    octopus_thread_pool *pool;
    SUCCEEDS(octopus, octopus->thread_pool->create(2, &pool, error));

    push_all_variants(NULL, topic);
    push_all_variants(pool, topic);

    octopus->thread_pool->release(pool);
    octopus->topic->release(topic);
    octopus->driver->release(driver);
    await_end();
    puts("every preparation was destroyed once");
    return 0;
}
