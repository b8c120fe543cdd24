/*
 * A host that loads the library several times: a second dlopen of the same path returns the same
 * instance, and a copy under another path is a separate instance. Both are used at the same time
 * and are independent.
 *
 *     twice LIBRARY COPY CONFIG TOPIC
 */
#include "host.h"

#include <pthread.h>
#include <sys/wait.h>

enum { INSTANCES = 2, EVENTS = 1000 };

static const char *config;

struct instance {
    const octopus_api *octopus;
    char topic[256];
    uint64_t number;
    octopus_driver *driver;
};

static octopus_status make(void *context, octopus_text json, void **made,
                           const octopus_component_reply *reply)
{
    (void)json, (void)reply;
    *made = context;
    return OCTOPUS_OK;
}

static octopus_status accept_all(void *instance, octopus_text metadata,
                                 const octopus_bytes *segments, uint64_t count,
                                 const octopus_component_reply *reply)
{
    (void)instance, (void)metadata, (void)segments, (void)count, (void)reply;
    return OCTOPUS_OK;
}

static void *work(void *context)
{
    struct instance *own = context;
    const octopus_api *octopus = own->octopus;
    octopus_component component = {.size = sizeof component, .make = make, .validate = accept_all};
    own->driver = make_driver(octopus, config, NULL);
    /* Both instances register the same name, which would fail if they shared their
     * registrations. */
    SUCCEEDS(octopus, octopus->driver->register_component(own->driver, OCTOPUS_ROLE_VALIDATOR,
                                                          text("own"), &component, error));
    octopus_topic *topic = make_topic(octopus, own->driver, own->topic);
    octopus_producer *producer = make_producer(octopus, topic);
    octopus_consumer *consumer = make_consumer(octopus, topic, own->topic);
    for (uint64_t event = 0; event < EVENTS; event++)
        octopus->future->release(push(octopus, producer, own->number + event));
    SUCCEEDS(octopus, octopus->producer->close(producer, 60000, error));
    for (uint64_t event = 0; event < EVENTS; event++)
        EXPECT(pull(octopus, consumer) == own->number + event);
    SUCCEEDS(octopus, octopus->consumer->close(consumer, 60000, error));
    octopus->consumer->release(consumer);
    octopus->producer->release(producer);
    octopus->topic->release(topic);
    return NULL;
}

static void fork_all(const struct instance *instances)
{
    int status;
    pid_t child = fork();
    if (child == 0) {
        alarm(20);
        for (int at = 0; at < INSTANCES; at++) {
            int32_t exists;
            const octopus_driver_api *drivers = instances[at].octopus->driver;
            EXPECT(drivers->topic_exists(instances[at].driver, text("topic"), &exists, NULL) ==
                   OCTOPUS_FORKED);
        }
        _exit(0);
    }
    EXPECT(child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) &&
           WEXITSTATUS(status) == 0);
}

int main(int argc, char **argv)
{
    if (argc != 5)
        return fprintf(stderr, "usage: %s LIBRARY COPY CONFIG TOPIC\n", argv[0]), 1;
    config = argv[3];
    struct instance instances[INSTANCES] = {
        {.octopus = load(argv[1])},
        {.octopus = registered(dlopen(argv[2], RTLD_NOW | RTLD_GLOBAL))},
    };
    EXPECT(registered(dlopen(argv[1], RTLD_LAZY | RTLD_GLOBAL)) == instances[0].octopus);
    EXPECT(registered(dlopen(argv[2], RTLD_NOW | RTLD_LOCAL)) == instances[1].octopus);
    EXPECT(instances[0].octopus != instances[1].octopus);

    pthread_t threads[INSTANCES];
    for (int at = 0; at < INSTANCES; at++) {
        instances[at].number = (uint64_t)at * EVENTS;
        snprintf(instances[at].topic, sizeof instances[at].topic, "%s-%d", argv[4], at);
        EXPECT(pthread_create(&threads[at], NULL, work, &instances[at]) == 0);
    }
    for (int at = 0; at < INSTANCES; at++)
        EXPECT(pthread_join(threads[at], NULL) == 0);
    fork_all(instances);
    for (int at = 0; at < INSTANCES; at++)
        instances[at].octopus->driver->release(instances[at].driver);
    puts("two instances, each with its own events");
    return 0;
}
