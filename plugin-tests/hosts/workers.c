/*
 * A host that forks workers, as Python's multiprocessing does: each worker creates its own driver,
 * pushes, pulls, and ends by _exit. STATE selects what the parent does meanwhile.
 *
 *     workers LIBRARY STATE CONFIG TOPIC
 *
 * Prints the number of events that parent and workers pushed together.
 */
#include "host.h"

#include <dirent.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

enum { WORKERS = 6, EVENTS = 100, TIMEOUT_S = 100, SUCCESS = 7 };

static const octopus_api *octopus;
static octopus_driver *driver;
static octopus_topic *topic;
static octopus_producer *producer;
static octopus_consumer *consumer;
static const char *library, *state, *config, *topic_name;
static atomic_int is_over;

/* Shared with the workers. */
static atomic_ullong *pushed;

static int is_state(const char *name) { return strcmp(state, name) == 0; }

static void push_events(octopus_producer *to, int count)
{
    for (int index = 0; index < count; index++) {
        octopus->future->release(push(octopus, to, 1));
        atomic_fetch_add(pushed, 1);
    }
}

/* ---- workers --------------------------------------------------------------------------------- */

/* Counts IP sockets only: while a thread of the parent resolves a name, libc has a netlink
 * socket. */
static int count_sockets(void)
{
    int count = 0;
    DIR *folder = opendir("/proc/self/fd");
    EXPECT(folder != NULL);
    for (struct dirent *entry; (entry = readdir(folder));) {
        struct sockaddr_storage address;
        socklen_t size = sizeof address;
        int is_socket = getsockname(atoi(entry->d_name), (struct sockaddr *)&address, &size) == 0;
        if (is_socket && (address.ss_family == AF_INET || address.ss_family == AF_INET6))
            count++;
    }
    closedir(folder);
    return count;
}

/* The parent's handles are rejected, both before and after the worker has created its own. */
static void check_rejected(void)
{
    octopus_push_args event = {.size = sizeof event};
    octopus_future *future = NULL;
    octopus_error *error = NULL;
    octopus_text name = OCTOPUS_TEXT("untouched");
    if (!producer)
        return;
    EXPECT(octopus->producer->push(producer, &event, &future, &error) == OCTOPUS_FORKED);
    EXPECT(future == NULL && octopus->error->code(error) == OCTOPUS_FORKED);
    EXPECT(octopus->error->message(error).size > 0);
    octopus->error->release(error);
    EXPECT(octopus->producer->close(producer, -1, NULL) == OCTOPUS_FORKED);
    EXPECT(!consumer || octopus->consumer->pull(consumer, &future, NULL) == OCTOPUS_FORKED);
    EXPECT(octopus->topic->name(topic, &name, NULL) == OCTOPUS_FORKED);
    EXPECT(octopus->driver->describe(driver, NULL, NULL) == OCTOPUS_FORKED);
    octopus->consumer->release(consumer);
    octopus->producer->release(producer);
    octopus->topic->release(topic);
    octopus->driver->release(driver);
}

static void await(pid_t child)
{
    int status;
    EXPECT(child > 0 && waitpid(child, &status, 0) == child);
    EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == SUCCESS);
}

static pid_t fork_worker(int depth);

static void work(int depth)
{
    alarm(TIMEOUT_S); /* a hang ends the worker with a signal */
    EXPECT(count_sockets() == 0);
    check_rejected();
    if (depth % 2 == 1) /* uses either the tables from before the fork, or registers again */
        octopus = load(library);
    octopus_driver *own = make_driver(octopus, config, NULL);
    octopus_topic *own_topic = NULL;
    SUCCEEDS(octopus, octopus->driver->open_topic(own, text(topic_name), &own_topic, error));
    octopus_producer *own_producer = make_producer(octopus, own_topic);
    check_rejected();
    push_events(own_producer, EVENTS);
    if (depth > 0) {
        driver = own, topic = own_topic, producer = own_producer;
        await(fork_worker(depth - 1));
    }
    char group[200];
    snprintf(group, sizeof group, "%s-%d", topic_name, (int)getpid());
    octopus_consumer *own_consumer = make_consumer(octopus, own_topic, group);
    EXPECT(pull(octopus, own_consumer) == 1);
    octopus->consumer->release(own_consumer);
    octopus->topic->release(own_topic);
    octopus->driver->release(own);
    octopus->producer->release(own_producer); /* waits for the deliveries */
    _exit(SUCCESS);
}

static pid_t fork_worker(int depth)
{
    pid_t child = fork();
    if (child == 0)
        work(depth);
    return child;
}

/* ---- the parent ------------------------------------------------------------------------------ */

static void *push_until_over(void *unused)
{
    (void)unused;
    while (!atomic_load(&is_over)) {
        push_events(producer, 1);
        usleep(100);
    }
    return NULL;
}

static void *pull_until_over(void *unused)
{
    (void)unused;
    while (!atomic_load(&is_over)) {
        octopus_event *event;
        uint64_t count = 0;
        octopus->consumer->pull_many(consumer, 1, 10, &event, &count, NULL);
        if (count > 0)
            octopus->event->release(event);
    }
    return NULL;
}

static void *create_until_over(void *unused)
{
    (void)unused;
    while (!atomic_load(&is_over)) {
        octopus_driver *another = make_driver(octopus, config, NULL);
        octopus_topic *opened = NULL;
        SUCCEEDS(octopus, octopus->driver->open_topic(another, text(topic_name), &opened, error));
        octopus->producer->release(make_producer(octopus, opened));
        octopus->topic->release(opened);
        octopus->driver->release(another);
    }
    return NULL;
}

static void open_all(void)
{
    driver = make_driver(octopus, config, NULL);
    SUCCEEDS(octopus, octopus->driver->open_topic(driver, text(topic_name), &topic, error));
    producer = make_producer(octopus, topic);
    char group[200];
    snprintf(group, sizeof group, "%s-parent", topic_name);
    consumer = make_consumer(octopus, topic, group);
    push_events(producer, EVENTS);
}

static void release_all(void)
{
    SUCCEEDS(octopus, octopus->producer->close(producer, 60000, error));
    octopus->consumer->release(consumer);
    octopus->producer->release(producer);
    octopus->topic->release(topic);
    octopus->driver->release(driver);
    driver = NULL, topic = NULL, producer = NULL, consumer = NULL;
}

int main(int argc, char **argv)
{
    if (argc != 5)
        return fprintf(stderr, "usage: %s LIBRARY STATE CONFIG TOPIC\n", argv[0]), 1;
    library = argv[1], state = argv[2], config = argv[3], topic_name = argv[4];
    closefrom(3);
    pushed = mmap(NULL, sizeof *pushed, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    EXPECT(pushed != MAP_FAILED);
    /* With RTLD_GLOBAL, the copies of the library that the workers load resolve its symbols before
     * their own. */
    octopus = is_state("nested, global") ? registered(dlopen(library, RTLD_NOW | RTLD_GLOBAL))
                                         : load(library);
    if (!is_state("registered"))
        open_all();
    if (is_state("released"))
        release_all();
    pthread_t thread;
    void *(*activity)(void *) = is_state("pushing")    ? push_until_over
                                : is_state("pulling")  ? pull_until_over
                                : is_state("creating") ? create_until_over
                                                       : NULL;
    if (activity)
        EXPECT(pthread_create(&thread, NULL, activity, NULL) == 0);
    pid_t workers[WORKERS];
    for (int index = 0; index < WORKERS; index++) {
        workers[index] = fork_worker(strncmp(state, "nested", 6) == 0 ? 2 : index % 2);
        usleep(20000);
    }
    for (int index = 0; index < WORKERS; index++)
        await(workers[index]);
    atomic_store(&is_over, 1);
    if (activity)
        EXPECT(pthread_join(thread, NULL) == 0);
    if (producer)
        release_all();
    printf("%llu\n", atomic_load(pushed));
    return 0;
}
