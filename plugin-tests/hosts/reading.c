/*
 * A host in C that pulls and acknowledges events of a topic, even if the topic has damaged or
 * missing records. It prints each event and each error, and ends after EVENTS events.
 *
 *     cc -std=c11 -I include -o reading plugin-tests/hosts/reading.c -ldl
 *     ./reading target/release/liboctopus.so localhost:9092 a-topic a-group 15
 */
#include "octopus.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const octopus_api *octopus;

/* Prints the error of a call. The caller continues, since the error may be transient or reported
 * once. */
static void print_error(octopus_status status, octopus_error *error)
{
    uint32_t partition;
    uint64_t first, last;
    octopus_text why = octopus->error->message(error);
    if (octopus->error->skipped(error, &partition, &first, &last))
        printf("skipped %d to %d of partition %d\n", (int)first, (int)last, (int)partition);
    else if (status != OCTOPUS_TIMED_OUT)
        printf("status %d\n", (int)status);
    fprintf(stderr, "status %d: %.*s\n", (int)status, (int)why.size, why.size ? why.data : "");
    octopus->error->release(error);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    void *library = argc > 5 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : NULL;
    const octopus_api *(*register_octopus)(uint32_t) = NULL;
    *(void **)&register_octopus = library ? dlsym(library, "octopus_register") : NULL;
    if (!register_octopus || !(octopus = register_octopus(OCTOPUS_ABI_MAJOR)))
        return fprintf(stderr, "usage: %s LIBRARY BOOTSTRAP-SERVERS TOPIC GROUP EVENTS\n", argv[0]),
               1;
    const long wanted = strtol(argv[5], NULL, 10);
    octopus_error *error;

    char config[512];
    int size = snprintf(config, sizeof config, "{\"kafka\": {\"bootstrap.servers\": \"%s\"}}",
                        argv[2]);
    octopus_driver *driver;
    octopus_topic *topic;
    octopus_consumer *consumer;
    octopus_status status = octopus->driver->create((octopus_text){config, size}, NULL, &driver,
                                                    &error);
    if (status == OCTOPUS_OK)
        status = octopus->driver->open_topic(driver, (octopus_text){argv[3], strlen(argv[3])},
                                             &topic, &error);
    octopus_consumer_args args = {.size = sizeof args, .name = {argv[4], strlen(argv[4])}};
    if (status == OCTOPUS_OK)
        status = octopus->topic->make_consumer(topic, &args, &consumer, &error);
    if (status != OCTOPUS_OK)
        return print_error(status, error), 1;

    for (long count = 0; count < wanted;) {
        octopus_event *event;
        uint64_t taken;
        status = octopus->consumer->pull_many(consumer, 1, 1000, &event, &taken, &error);
        if (status != OCTOPUS_OK) {
            print_error(status, error);
            continue;
        }
        octopus_event_view view = {.size = sizeof view};
        if (octopus->event->view(event, &view, NULL) != OCTOPUS_OK ||
            octopus->event->acknowledge(event, NULL) != OCTOPUS_OK)
            return fprintf(stderr, "an event can't be used\n"), 1;
        printf("event %d\n", (int)view.id);
        fflush(stdout);
        octopus->event->release(event);
        count++;
    }
    status = octopus->consumer->close(consumer, 60000, &error);
    if (status != OCTOPUS_OK)
        return print_error(status, error), 1;
    octopus->consumer->release(consumer);
    octopus->topic->release(topic);
    octopus->driver->release(driver);
    return 0;
}
