/*
 * A host that forks after it has used the library: the child is told so by every call and never hangs, its releases do
 * nothing, and the parent goes on as if nothing had happened.
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
        fprintf(stderr, "not so: %s\n", what);
        _exit(1);
    }
}
#define EXPECT(condition) expect(condition, #condition)

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
    octopus_future *push;
    octopus_push_args event = {.size = sizeof event};
    EXPECT(octopus->driver->create(config, NULL, &driver, NULL) == OCTOPUS_OK);
    EXPECT(octopus->driver->create_topic(driver, name, NULL, NULL) == OCTOPUS_OK);
    EXPECT(octopus->driver->open_topic(driver, name, &topic, NULL) == OCTOPUS_OK);
    EXPECT(octopus->topic->make_producer(topic, NULL, &producer, NULL) == OCTOPUS_OK);

    pid_t child = fork();
    EXPECT(child >= 0);
    if (child == 0) {
        alarm(20); /* a hang ends the child with a signal, and so the test */
        octopus_error *error;
        octopus_driver *another;
        int32_t exists;
        EXPECT(octopus->producer->push(producer, &event, NULL, NULL) == OCTOPUS_FORKED);
        EXPECT(octopus->producer->close(producer, -1, NULL) == OCTOPUS_FORKED);
        EXPECT(octopus->driver->create(config, NULL, &another, NULL) == OCTOPUS_FORKED);
        EXPECT(octopus->driver->topic_exists(driver, name, &exists, &error) == OCTOPUS_FORKED);
        EXPECT(octopus->error->message(error).size > 0);
        octopus->error->release(error);
        octopus->producer->release(producer);
        octopus->topic->release(topic);
        octopus->driver->release(driver);
        exit(0); /* with all that a process does at its end */
    }
    int status;
    EXPECT(waitpid(child, &status, 0) == child);
    EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 0);

    EXPECT(octopus->producer->push(producer, &event, &push, NULL) == OCTOPUS_OK);
    EXPECT(octopus->future->wait(push, 30000, NULL) == OCTOPUS_OK);
    octopus->future->release(push);
    octopus->producer->release(producer);
    octopus->topic->release(topic);
    octopus->driver->release(driver);
    puts("the child was told, the parent went on");
    return 0;
}
