/*
 * Has the library create the object that the options on a page are for.
 *
 *     options LIBRARY KIND OPTIONS [BOOTSTRAP-SERVERS NEW-TOPIC]
 *
 * KIND is driver, topic, producer or consumer. OPTIONS is JSON; those of a driver need no Kafka.
 * The library writes its warnings to the standard error stream, which ci/docs/options.py searches
 * for options that it ignores.
 */
#include "host.h"

static const octopus_api *octopus;

/* Writes the library's message if a call failed. The call must pass `&failure` as its error. */
#define REPORT(call) (failure = NULL, report(call))

static octopus_error *failure;

static int report(octopus_status status)
{
    octopus_text why = octopus->error->message(failure);
    if (status == OCTOPUS_OK)
        return 0;
    fprintf(stderr, "%.*s\n", (int)why.size, why.size ? why.data : "");
    octopus->error->release(failure);
    return 1;
}

static int create_driver(octopus_text options)
{
    octopus_driver *driver = NULL;
    int failed = REPORT(octopus->driver->create(options, NULL, &driver, &failure));
    if (!failed)
        octopus->driver->release(driver);
    return failed;
}

static int create_topic(const octopus_driver *driver, octopus_text name, octopus_text options)
{
    octopus_create_topic_args args = {.size = sizeof args, .options = options};
    return REPORT(octopus->driver->create_topic(driver, name, &args, &failure));
}

static int create_producer(const octopus_topic *topic, octopus_text options)
{
    octopus_producer_args args = {
        .size = sizeof args, .name = text("documented"), .options = options};
    octopus_producer *producer = NULL;
    int failed = REPORT(octopus->topic->make_producer(topic, &args, &producer, &failure));
    if (!failed)
        octopus->producer->release(producer);
    return failed;
}

static int create_consumer(const octopus_topic *topic, octopus_text options)
{
    octopus_consumer_args args = {
        .size = sizeof args, .name = text("documented"), .options = options};
    octopus_consumer *consumer = NULL;
    int failed = REPORT(octopus->topic->make_consumer(topic, &args, &consumer, &failure));
    if (!failed)
        octopus->consumer->release(consumer);
    return failed;
}

/* Creates a topic with the options, or one for a producer or a consumer with the options. */
static int create_on_kafka(const char *kind, octopus_text options, const char *bootstrap,
                           octopus_text name)
{
    char config[1024];
    int is_topic = strcmp(kind, "topic") == 0, failed;
    octopus_topic *topic = NULL;
    snprintf(config, sizeof config, "{\"kafka\": {\"bootstrap.servers\": \"%s\"}}", bootstrap);
    octopus_driver *driver = make_driver(octopus, config, NULL);
    failed = create_topic(driver, name, is_topic ? options : text("{\"replication_factor\": 1}"));
    if (failed) {
        octopus->driver->release(driver);
        return failed;
    }
    if (!is_topic) {
        SUCCEEDS(octopus, octopus->driver->open_topic(driver, name, &topic, error));
        failed = strcmp(kind, "producer") == 0 ? create_producer(topic, options)
                                               : create_consumer(topic, options);
        octopus->topic->release(topic);
    }
    SUCCEEDS(octopus, octopus->driver->delete_topic(driver, name, error));
    octopus->driver->release(driver);
    return failed;
}

int main(int argc, char **argv)
{
    int is_driver = argc > 2 && strcmp(argv[2], "driver") == 0;
    if (argc < (is_driver ? 4 : 6)) {
        fprintf(stderr, "usage: %s LIBRARY KIND OPTIONS [BOOTSTRAP-SERVERS NEW-TOPIC]\n", argv[0]);
        return 2;
    }
    octopus = load(argv[1]);
    if (is_driver)
        return create_driver(text(argv[3]));
    return create_on_kafka(argv[2], text(argv[3]), argv[4], text(argv[5]));
}
