/*
 * The communication of a MOFA workflow: a thinker creates a driver and forks a server, which
 * creates its own driver. The thinker sends tasks; the server sends the result of each on one of
 * five topics. Each message is 37 KB of text in the metadata and is pushed, waited for and flushed.
 * Pulls have a timeout of one second. The thinker exits without closing anything.
 *
 *     workflow LIBRARY CONFIG PREFIX TASKS
 */
#include "host.h"

#include <sys/wait.h>
#include <time.h>

enum { RESULT_TOPICS = 5, MESSAGE_BYTES = 37 * 1024, PULL_MS = 1000, LIMIT_S = 100, SUCCESS = 0 };

static const octopus_api *octopus;
static const char *prefix;
static char message[MESSAGE_BYTES];

static double now_s(void)
{
    struct timespec now;
    EXPECT(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static octopus_topic *open_queue(const octopus_driver *driver, int number)
{
    char name[200];
    octopus_topic *topic = NULL;
    snprintf(name, sizeof name, "%s-%d", prefix, number);
    SUCCEEDS(octopus, octopus->driver->open_topic(driver, text(name), &topic, error));
    return topic;
}

static void send_message(const octopus_producer *producer)
{
    octopus_push_args event = {.size = sizeof event,
                               .metadata = {(const uint8_t *)message, strlen(message)}};
    octopus_future *future;
    SUCCEEDS(octopus, octopus->producer->push(producer, &event, &future, error));
    SUCCEEDS(octopus, octopus->future->wait(future, 60000, error));
    octopus->future->release(future);
    SUCCEEDS(octopus, octopus->producer->flush(producer, &future, error));
    SUCCEEDS(octopus, octopus->future->wait(future, 60000, error));
    octopus->future->release(future);
}

/* Returns whether a message arrived within a second. */
static int receive_message(const octopus_consumer *consumer)
{
    octopus_event *event;
    octopus_event_view view = {.size = sizeof view};
    uint64_t count = 0;
    octopus_status status = octopus->consumer->pull_many(consumer, 1, PULL_MS, &event, &count,
                                                         NULL);
    if (status == OCTOPUS_TIMED_OUT)
        return 0;
    EXPECT(status == OCTOPUS_OK && count == 1);
    SUCCEEDS(octopus, octopus->event->view(event, &view, error));
    EXPECT(view.metadata.size == strlen(message) &&
           memcmp(view.metadata.data, message, view.metadata.size) == 0);
    SUCCEEDS(octopus, octopus->event->acknowledge(event, error));
    octopus->event->release(event);
    return 1;
}

static void serve(const char *config, int tasks)
{
    octopus_producer *results[RESULT_TOPICS];
    octopus_driver *driver = make_driver(octopus, config, NULL);
    octopus_consumer *requests = make_consumer(octopus, open_queue(driver, RESULT_TOPICS), prefix);
    for (int number = 0; number < RESULT_TOPICS; number++)
        results[number] = make_producer(octopus, open_queue(driver, number));
    for (int done = 0; done < tasks;)
        if (receive_message(requests)) {
            send_message(results[done % RESULT_TOPICS]);
            done++;
        }
    _exit(SUCCESS);
}

int main(int argc, char **argv)
{
    if (argc != 5)
        return fprintf(stderr, "usage: %s LIBRARY CONFIG PREFIX TASKS\n", argv[0]), 1;
    int tasks = atoi(argv[4]), status;
    prefix = argv[3];
    alarm(LIMIT_S);
    memset(message, 'm', sizeof message - 1);
    message[0] = message[sizeof message - 2] = '"';
    octopus = load(argv[1]);
    octopus_driver *driver = make_driver(octopus, argv[2], NULL);
    octopus_consumer *results[RESULT_TOPICS];
    for (int number = 0; number <= RESULT_TOPICS; number++) {
        char name[200];
        snprintf(name, sizeof name, "%s-%d", prefix, number);
        octopus_topic *topic = make_topic(octopus, driver, name);
        if (number < RESULT_TOPICS)
            results[number] = make_consumer(octopus, topic, name);
    }
    pid_t server = fork();
    if (server == 0)
        serve(argv[2], tasks);
    EXPECT(server > 0);
    octopus_producer *requests = make_producer(octopus, open_queue(driver, RESULT_TOPICS));
    int received = 0;
    for (int sent = 0; sent < tasks; sent++)
        send_message(requests);
    while (received < tasks)
        for (int number = 0; number < RESULT_TOPICS; number++)
            received += receive_message(results[number]);
    EXPECT(waitpid(server, &status, 0) == server && WIFEXITED(status) &&
           WEXITSTATUS(status) == SUCCESS);
    printf("%d results, ended at %.3f\n", received, now_s());
    return 0;
}
