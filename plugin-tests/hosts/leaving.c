/*
 * A host that exits while everything is open: events in flight, a thread in a pull, another in
 * process, tasks queued in a pool, callbacks registered, the library closed by dlclose. The process
 * ends at once and without a crash, whatever WAY it exits by.
 *
 *     leaving LIBRARY WAY CONFIG TOPIC
 */
#include "host.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

static const octopus_api *octopus;
static const char *way;
static octopus_driver *driver;
static octopus_topic *topic;
static octopus_producer *producer, *pooled;
static octopus_consumer *consumer, *processed;
static octopus_thread_pool *pool;
static octopus_future *last;

/* The exit status names the thread that ended the process. */
enum { BY_MAIN = 3, BY_CALLBACK, BY_OTHER_THREAD, AT_THE_END };

static void exit_if_way(const char *where)
{
    static atomic_flag has_exited = ATOMIC_FLAG_INIT;
    if (strcmp(way, where) == 0 && !atomic_flag_test_and_set(&has_exited))
        exit(BY_CALLBACK);
}

static void *pull_without_timeout(void *unused)
{
    octopus_future *pending;
    (void)unused;
    EXPECT(octopus->consumer->pull(consumer, &pending, NULL) == OCTOPUS_OK);
    octopus->future->wait(pending, -1, NULL);
    return NULL;
}

static int32_t continue_processing(void *context, octopus_event *event)
{
    (void)context;
    if (event)
        exit_if_way("in a processor");
    usleep(1000);
    return OCTOPUS_PROCESS_CONTINUE;
}

static void *process(void *unused)
{
    octopus_processor processor = {.function = continue_processing};
    (void)unused;
    octopus->consumer->process(processed, &processor, -1, UINT64_MAX, pool, NULL);
    return NULL;
}

static void completed(void *context, octopus_future *future)
{
    (void)context, (void)future;
    exit_if_way("in a completion");
}

static void work(void *context)
{
    (void)context;
    exit_if_way("in a task");
    usleep(1000);
}

static void on_statistics(void *context, octopus_text client, octopus_text json)
{
    (void)context, (void)client, (void)json;
    exit_if_way("in statistics");
}

static void rebalanced(void *context, octopus_text group, int32_t what, const uint32_t *partitions,
                       uint64_t count)
{
    (void)context, (void)group, (void)what, (void)partitions, (void)count;
    exit_if_way("in a rebalance");
}

static void *exit_on_another_thread(void *main_thread)
{
    EXPECT(pthread_join(*(pthread_t *)main_thread, NULL) == 0);
    exit(BY_OTHER_THREAD);
}

/* Runs after all handlers that were registered later, such as that of OpenSSL. */
static void use_all_at_exit(void)
{
    if (strcmp(way, "using all at the end") != 0)
        return;
    octopus_driver *late = make_driver(octopus, getenv("CONFIG"), NULL);
    int32_t exists = 0;
    SUCCEEDS(octopus, octopus->driver->topic_exists(late, text(getenv("TOPIC")), &exists, error));
    EXPECT(exists == (strstr(getenv("CONFIG"), "embedded") ==
                      NULL)); /* each driver has its own embedded Kafka */
    octopus->driver->release(late);
    octopus->future->release(push(octopus, producer, 1));
    SUCCEEDS(octopus, octopus->producer->close(producer, 60000, error));
    SUCCEEDS(octopus, octopus->producer->close(pooled, 60000, error));
    SUCCEEDS(octopus, octopus->future->wait(last, 0, error));
    SUCCEEDS(octopus, octopus->consumer->close(consumer, 60000, error));
    SUCCEEDS(octopus, octopus->consumer->close(processed, 60000, error));
    octopus->future->release(last);
    octopus->producer->release(producer);
    octopus->producer->release(pooled);
    octopus->consumer->release(consumer);
    octopus->consumer->release(processed);
    octopus->thread_pool->release(pool);
    octopus->topic->release(topic);
    octopus->driver->release(driver);
    _exit(AT_THE_END);
}

static int exit_by_way(void)
{
    static pthread_t self, other;
    if (strcmp(way, "main returns") == 0 || strcmp(way, "using all at the end") == 0)
        return BY_MAIN;
    if (strcmp(way, "exit") == 0)
        exit(BY_MAIN);
    if (strcmp(way, "_exit") == 0)
        _exit(BY_MAIN);
    if (strcmp(way, "quick_exit") == 0)
        quick_exit(BY_MAIN);
    if (strcmp(way, "SIGTERM") == 0)
        raise(SIGTERM);
    if (strcmp(way, "abort") == 0)
        abort();
    if (strcmp(way, "main's thread ends") == 0) {
        self = pthread_self();
        EXPECT(pthread_create(&other, NULL, exit_on_another_thread, &self) == 0);
        pthread_exit(NULL);
    }
    for (;;) /* a callback calls exit */
        pause();
}

int main(int argc, char **argv)
{
    if (argc != 5)
        return fprintf(stderr, "usage: %s LIBRARY WAY CONFIG TOPIC\n", argv[0]), 1;
    way = argv[2];
    setenv("CONFIG", argv[3], 1);
    setenv("TOPIC", argv[4], 1);
    atexit(use_all_at_exit);
    void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    octopus = registered(library);
    octopus_host_services services = {.size = sizeof services,
                                      .statistics = {.function = on_statistics},
                                      .rebalance = {.function = rebalanced}};
    driver = make_driver(octopus, argv[3], &services);
    topic = make_topic(octopus, driver, argv[4]);
    SUCCEEDS(octopus, octopus->thread_pool->create(2, &pool, error));
    octopus_producer_args producer_args = {.size = sizeof producer_args, .thread_pool = pool};
    producer = make_producer(octopus, topic);
    SUCCEEDS(octopus, octopus->topic->make_producer(topic, &producer_args, &pooled, error));
    consumer = make_consumer(octopus, topic, argv[4]);
    char others[256];
    snprintf(others, sizeof others, "%s-others", argv[4]);
    processed = make_consumer(octopus, topic, others);

    pthread_t threads[2];
    EXPECT(pthread_create(&threads[0], NULL, pull_without_timeout, NULL) == 0);
    EXPECT(pthread_create(&threads[1], NULL, process, NULL) == 0);
    octopus_push_args event = {.size = sizeof event};
    octopus_completion completion = {.function = completed};
    octopus_task task = {.function = work};
    for (int index = 0; index < 20000; index++) {
        octopus_error *why = NULL;
        octopus_status status = octopus->producer->push(index % 2 ? producer : pooled, &event,
                                                        &last, &why);
        while (status == OCTOPUS_CLOSED && strncmp(way, "in ", 3) == 0)
            pause(); /* a callback has called exit already */
        EXPECT(status == OCTOPUS_OK);
        if (index % 100 == 0) {
            SUCCEEDS(octopus, octopus->future->on_complete(last, &completion, error));
            SUCCEEDS(octopus, octopus->thread_pool->submit(pool, &task, 0, error));
        }
        if (index < 19999)
            octopus->future->release(last);
    }
    EXPECT(dlclose(library) == 0);
    return exit_by_way();
}
