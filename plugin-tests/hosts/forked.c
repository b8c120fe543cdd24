/*
 * A host that forks after it has used the library. In the child, each call on a handle of the
 * parent returns OCTOPUS_FORKED and does not hang, and releases do nothing. The parent is not
 * affected.
 */
#include "octopus.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void expect(int holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "failed: %s\n", what);
        _exit(1);
    }
}
#define EXPECT(condition) expect(condition, #condition)

/* A call that fails in the child must not destroy the context, which the parent still owns. */
static void never(void *context)
{
    expect(context == NULL && 0, "a callback is destroyed in the child");
}

static void do_nothing(void *context) { (void)context; }

static void ignore_completion(void *context, octopus_future *future)
{
    (void)context, (void)future;
}

static int32_t continue_processing(void *context, octopus_event *event)
{
    (void)context, (void)event;
    return OCTOPUS_PROCESS_CONTINUE;
}

int main(int argc, char **argv)
{
    void *library = argc > 1 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : NULL;
    const octopus_api *(*register_octopus)(uint32_t) = NULL;
    *(void **)&register_octopus = library ? dlsym(library, "octopus_register") : NULL;
    if (!register_octopus)
        return fprintf(stderr, "usage: %s LIBRARY\n", argv[0]), 1;
    const octopus_api *octopus = register_octopus(OCTOPUS_ABI_MAJOR);
    const octopus_text name = OCTOPUS_TEXT("topic"), config = OCTOPUS_TEXT("{\"embedded\": {}}");
    octopus_driver *driver;
    octopus_topic *topic;
    octopus_producer *producer;
    octopus_consumer *consumer;
    octopus_thread_pool *pool;
    octopus_future *push;
    octopus_consumer_args consumer_args = {.size = sizeof consumer_args,
                                           .name = OCTOPUS_TEXT("group")};
    octopus_push_args event = {.size = sizeof event};
    EXPECT(octopus->driver->create(config, NULL, &driver, NULL) == OCTOPUS_OK);
    EXPECT(octopus->driver->create_topic(driver, name, NULL, NULL) == OCTOPUS_OK);
    EXPECT(octopus->driver->open_topic(driver, name, &topic, NULL) == OCTOPUS_OK);
    EXPECT(octopus->topic->make_producer(topic, NULL, &producer, NULL) == OCTOPUS_OK);
    EXPECT(octopus->topic->make_consumer(topic, &consumer_args, &consumer, NULL) == OCTOPUS_OK);
    EXPECT(octopus->thread_pool->create(1, &pool, NULL) == OCTOPUS_OK);
    EXPECT(octopus->producer->push(producer, &event, &push, NULL) == OCTOPUS_OK);

    pid_t child = fork();
    EXPECT(child >= 0);
    if (child == 0) {
        alarm(20); /* a child that hangs is ended by a signal, which fails the test */
        octopus_error *error;
        int32_t exists;
        EXPECT(octopus->producer->push(producer, &event, NULL, NULL) == OCTOPUS_FORKED);
        EXPECT(octopus->producer->close(producer, -1, NULL) == OCTOPUS_FORKED);
        EXPECT(octopus->driver->topic_exists(driver, name, &exists, &error) == OCTOPUS_FORKED);
        EXPECT(octopus->error->message(error).size > 0);
        octopus->error->release(error);
        octopus_component component = {.size = sizeof component, .destroy = never};
        octopus_completion completion = {.function = ignore_completion, .destroy = never};
        octopus_processor processor = {.function = continue_processing, .destroy = never};
        octopus_task task = {.function = do_nothing, .destroy = never};
        EXPECT(octopus->driver->register_component(driver, OCTOPUS_ROLE_VALIDATOR, name, &component,
                                                   NULL) == OCTOPUS_FORKED);
        EXPECT(octopus->future->on_complete(push, &completion, NULL) == OCTOPUS_FORKED);
        EXPECT(octopus->consumer->process(consumer, &processor, 0, 1, pool, NULL) ==
               OCTOPUS_FORKED);
        EXPECT(octopus->thread_pool->submit(pool, &task, 0, NULL) == OCTOPUS_FORKED);
        octopus->thread_pool->release(pool);
        octopus->future->release(push);
        octopus->consumer->release(consumer);
        octopus->producer->release(producer);
        octopus->topic->release(topic);
        octopus->driver->release(driver);
        exit(0); /* runs atexit handlers and destructors */
    }
    int status;
    EXPECT(waitpid(child, &status, 0) == child);
    EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 0);

    octopus->future->release(push);
    EXPECT(octopus->producer->push(producer, &event, &push, NULL) == OCTOPUS_OK);
    EXPECT(octopus->future->wait(push, 30000, NULL) == OCTOPUS_OK);
    octopus->future->release(push);
    octopus->thread_pool->release(pool);
    octopus->consumer->release(consumer);
    octopus->producer->release(producer);
    octopus->topic->release(topic);
    octopus->driver->release(driver);
    puts("each call of the child returned OCTOPUS_FORKED, and the parent continued");
    return 0;
}
