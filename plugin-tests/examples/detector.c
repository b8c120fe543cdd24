/*
 * An instrument that streams images: 200 frames of 256 x 256 pixels. Each is an event, with the
 * pixels as its data, and what a reader has to know to use them as its metadata. monitor.cpp reads
 * them. Ctrl+C and SIGTERM end the stream early: the frames so far are stored.
 *
 *     cc -std=c11 -I include -o target/detector plugin-tests/examples/detector.c -ldl
 *     OCTOPUS_LIBRARY=target/release/liboctopus.so target/detector localhost:9092 [TOPIC]
 */
#define _POSIX_C_SOURCE 200809L

#include "octopus.h"

#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FRAMES = 200, HEIGHT = 256, WIDTH = 256, SPOT_RADIUS = 6, TIMEOUT_MS = 60000 };

static const octopus_api *octopus;
static octopus_error *error; /* of the last call of the main thread */

/* Ends the program with the error of the call, unless it succeeded. The exit waits for the frames
 * in flight, at most the driver's `exit_flush_ms`. */
#define CHECK(call) check((call), #call)

static void check(octopus_status status, const char *call)
{
    if (status == OCTOPUS_OK)
        return;
    if (status == OCTOPUS_TIMED_OUT) { /* which has no error object */
        fprintf(stderr, "%s\n  timed out\n", call);
        exit(1);
    }
    const octopus_text why = octopus->error->message(error);
    fprintf(stderr, "%s\n  returned status %d: %.*s\n", call, (int)status, (int)why.size, why.data);
    exit(1);
}

/* Ends the program, unless snprintf returned the size of a text that fits into its buffer. */
static void check_fit(int size, size_t capacity, const char *what)
{
    if (size >= 0 && (size_t)size < capacity)
        return;
    fprintf(stderr, "%s: too long for its buffer of %zu bytes\n", what, capacity);
    exit(1);
}

static volatile sig_atomic_t is_stopped; /* set by Ctrl+C and SIGTERM */

static void stop(int signal)
{
    (void)signal;
    is_stopped = 1; /* a signal handler must not call Octopus */
}

static void handle_signals(void)
{
    /* The second Ctrl+C ends the program at once. */
    struct sigaction action = {.sa_handler = stop, .sa_flags = SA_RESETHAND};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

static octopus_text text(const char *from) { return (octopus_text){from, strlen(from)}; }

static void load_library(void)
{
    const char *path = getenv("OCTOPUS_LIBRARY");
    void *library = dlopen(path ? path : "liboctopus.so", RTLD_NOW | RTLD_LOCAL);
    const octopus_api *(*entry)(uint32_t) = NULL;
    if (library)
        *(void **)&entry = dlsym(library, "octopus_register");
    octopus = entry ? entry(OCTOPUS_ABI_MAJOR) : NULL;
    if (octopus && octopus->abi_minor == OCTOPUS_ABI_MINOR)
        return;
    fprintf(stderr, "loading Octopus: %s\n",
            entry ? "the library has another version than octopus.h" : dlerror());
    exit(1);
}

/* Opens the topic, which an earlier run may have created. Brokers share its partitions, and so do
 * the readers of a group. */
static octopus_topic *open_topic(const octopus_driver *driver, const char *name)
{
    octopus_create_topic_args args = {.size = sizeof args};
    args.options = OCTOPUS_TEXT("{\"num_partitions\": 4, \"replication_factor\": 1}");
    const octopus_status created = octopus->driver->create_topic(driver, text(name), &args, &error);
    if (created == OCTOPUS_TOPIC_EXISTS)
        octopus->error->release(error);
    else
        check(created, "octopus->driver->create_topic");
    octopus_topic *topic;
    CHECK(octopus->driver->open_topic(driver, text(name), &topic, &error));
    return topic;
}

/* Takes a picture: noise, and a bright spot that moves from the left to the right. */
static void expose(int frame, uint16_t pixels[HEIGHT][WIDTH])
{
    static uint32_t noise = 1;
    const int spot = frame * WIDTH / FRAMES;
    for (int y = 0; y < HEIGHT; y++)
        for (int x = 0; x < WIDTH; x++) {
            noise = noise * 1664525 + 1013904223;
            const int is_spot = abs(x - spot) < SPOT_RADIUS && abs(y - HEIGHT / 2) < SPOT_RADIUS;
            pixels[y][x] = (uint16_t)((noise >> 26) + (is_spot ? 1000 : 0));
        }
}

/* Called on a plugin thread when a frame is stored or has failed. Names each frame that is lost,
 * which the final error of the producer does not. */
static void on_delivery(void *frame, octopus_future *push)
{
    octopus_error *why = NULL;
    if (octopus->future->wait(push, 0, &why) != OCTOPUS_OK) { /* the result is there: no wait */
        const octopus_text message = octopus->error->message(why);
        fprintf(stderr, "frame %d: %.*s\n", (int)(intptr_t)frame, (int)message.size,
                message.size ? message.data : "");
        octopus->error->release(why);
    }
}

/* Queues a copy of a frame. Does not wait for the broker, unless the in-flight limit is reached. */
static void push_frame(const octopus_producer *producer, int frame, uint16_t pixels[HEIGHT][WIDTH])
{
    char metadata[200]; /* "<u2" is numpy's name for unsigned 16-bit integers, little-endian */
    const int size = snprintf(metadata, sizeof metadata,
                              "{\"frame\": %d, \"frames\": %d, \"energy_kev\": %.3f, "
                              "\"shape\": [%d, %d], \"dtype\": \"<u2\"}",
                              frame, FRAMES, 8 + frame * 0.001, HEIGHT, WIDTH);
    check_fit(size, sizeof metadata, "the metadata");
    const octopus_bytes data = {(const uint8_t *)pixels, sizeof(uint16_t[HEIGHT][WIDTH])};
    octopus_push_args event = {.size = sizeof event, .segments = &data, .segment_count = 1};
    event.metadata = (octopus_bytes){(const uint8_t *)metadata, (uint64_t)size};
    octopus_future *push;
    CHECK(octopus->producer->push(producer, &event, &push, &error));
    octopus_completion completion = {.function = on_delivery};
    completion.context = (void *)(intptr_t)frame;
    CHECK(octopus->future->on_complete(push, &completion, &error));
    octopus->future->release(push); /* the plugin keeps it until the completion has run */
}

int main(int argc, char **argv)
{
    if (argc < 2 || argc > 3)
        return fprintf(stderr, "usage: %s BOOTSTRAP-SERVERS [TOPIC]\n", argv[0]), 1;
    handle_signals();
    load_library();
    char config[512];
    const int size = snprintf(config, sizeof config, "{\"kafka\": {\"bootstrap.servers\": \"%s\"}}",
                              argv[1]);
    check_fit(size, sizeof config, "the configuration");
    octopus_driver *driver;
    CHECK(octopus->driver->create(text(config), NULL, &driver, &error));
    octopus_topic *topic = open_topic(driver, argc > 2 ? argv[2] : "detector-frames");
    const octopus_producer_args args = {.size = sizeof args, .name = OCTOPUS_TEXT("detector")};
    octopus_producer *producer;
    CHECK(octopus->topic->make_producer(topic, &args, &producer, &error));

    static uint16_t pixels[HEIGHT][WIDTH];
    int frame = 0;
    for (; frame < FRAMES && !is_stopped; frame++) {
        expose(frame, pixels);
        push_frame(producer, frame, pixels);
    }
    /* Waits until no frame is in flight. Fails if any failed, with their number. */
    CHECK(octopus->producer->close(producer, TIMEOUT_MS, &error));
    printf("%d frames of %d x %d pixels stored\n", frame, HEIGHT, WIDTH);

    octopus->producer->release(producer);
    octopus->topic->release(topic);
    octopus->driver->release(driver);
    return 0;
}
