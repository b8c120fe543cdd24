/*
 * A program that runs out of threads or descriptors, at each point in turn. Each call succeeds or
 * fails with a status and a message that names the limit; nothing aborts or hangs. Once the limit
 * is lifted, the objects that were created work, and the others can be created. At the end no
 * thread and no descriptor is leaked.
 *
 *     limits LIBRARY CONFIG TOPIC KIND FIRST STEP
 *
 * KIND is what fails: `thread` (the creation of the Nth thread), `threads` (of the Nth and all
 * later ones), `user` (the same, by RLIMIT_NPROC; requires root), `descriptors` (all but N of them,
 * by RLIMIT_NOFILE). N increases from FIRST in steps of STEP, each in a separate process, until no
 * call fails. Prints the number of processes that met the limit.
 */
#include "host.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <threads.h>
#include <time.h>

/* The number of processes that run at the same time. They spend most of their time waiting. */
#define PROCESSES 6
/* The exit status of a process that did not meet its limit. */
#define NOT_MET 10

static const char *config, *kind;
static const octopus_api *octopus;
static int met, is_limited;

/* --- fault injection: threads that can't be created ------------------------------------------- */

static atomic_long created;
static atomic_long first_failing = -1, last_failing = -1;
static atomic_int failed;

static int can_create(void)
{
    long number = atomic_fetch_add(&created, 1) + 1;
    int fails = first_failing >= 0 && number >= first_failing && number <= last_failing;
    if (fails)
        failed = 1;
    return !fails;
}

/* Replaces libc's function in all libraries of the process. */
int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                   void *context)
{
    static int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "pthread_create");
    return can_create() ? real(thread, attributes, run, context) : EAGAIN;
}

/* librdkafka calls this. libc's thrd_create does not call pthread_create. */
int thrd_create(thrd_t *thread, thrd_start_t run, void *context)
{
    static int (*real)(thrd_t *, thrd_start_t, void *);
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "thrd_create");
    return can_create() ? real(thread, run, context) : thrd_error;
}

static rlim_t soft_limit(int resource)
{
    struct rlimit limit;
    EXPECT(getrlimit(resource, &limit) == 0);
    return limit.rlim_cur;
}

static void set_soft_limit(int resource, rlim_t value)
{
    struct rlimit limit;
    EXPECT(getrlimit(resource, &limit) == 0);
    limit.rlim_cur = value;
    EXPECT(setrlimit(resource, &limit) == 0);
}

static long count(const char *folder)
{
    DIR *entries = opendir(folder);
    EXPECT(entries != NULL);
    long found = 0;
    for (struct dirent *entry; (entry = readdir(entries));)
        found += entry->d_name[0] != '.';
    closedir(entries);
    return found;
}

static rlim_t lifted;

static void limit(long number)
{
    is_limited = 1;
    if (!strcmp(kind, "thread") || !strcmp(kind, "threads")) {
        first_failing = created + number;
        last_failing = strcmp(kind, "thread") ? 1L << 40 : created + number;
    } else if (!strcmp(kind, "user")) {
        lifted = soft_limit(RLIMIT_NPROC);
        set_soft_limit(RLIMIT_NPROC, (rlim_t)(count("/proc/self/task") + number - 1));
    } else {
        /* `count` itself opens one descriptor. */
        lifted = soft_limit(RLIMIT_NOFILE);
        set_soft_limit(RLIMIT_NOFILE, (rlim_t)(count("/proc/self/fd") - 1 + number - 1));
    }
}

static void lift(void)
{
    is_limited = 0;
    first_failing = -1;
    if (!strcmp(kind, "user"))
        set_soft_limit(RLIMIT_NPROC, lifted);
    if (!strcmp(kind, "descriptors"))
        set_soft_limit(RLIMIT_NOFILE, lifted);
}

/* --- the program ------------------------------------------------------------------------------ */

typedef struct {
    const char *topic_name;
    octopus_driver *driver;
    octopus_topic *topic;
    octopus_producer *producer;
    octopus_consumer *consumer;
    octopus_thread_pool *pool;
    octopus_future *pushed[2];
    uint64_t pulled;
    int has_topic, has_completion;
    atomic_int completions;
} program;

/* Returns whether a call succeeded. Under a limit it may fail, but only with OCTOPUS_RESOURCE_LIMIT
 * and a message that names the limit. `place` is a pointer since it must be read after the call,
 * which is another argument. */
static int succeeds(const char *call, octopus_status status, octopus_error **place)
{
    octopus_error *error = *place;
    octopus_text message = octopus->error->message(error);
    int names_limit = error && message.data && strstr(message.data, "ulimit") != NULL;
    if (status == OCTOPUS_RESOURCE_LIMIT)
        met = 1;
    if (status != OCTOPUS_OK && !(is_limited && status == OCTOPUS_RESOURCE_LIMIT && names_limit)) {
        fprintf(stderr, "%s: status %d: %.*s\n", call, status, (int)message.size,
                message.size ? message.data : "");
        _exit(1);
    }
    EXPECT(status == OCTOPUS_OK || octopus->error->retriable(error));
    octopus->error->release(error);
    return status == OCTOPUS_OK;
}

#define TRY(call, ...) (error = NULL, succeeds(#call, octopus->call(__VA_ARGS__, &error), &error))

static void count_completion(void *context, octopus_future *future)
{
    (void)future;
    atomic_fetch_add((atomic_int *)context, 1);
}

/* Creates the objects that do not exist yet. */
static void create(program *self)
{
    octopus_error *error;
    if (!self->driver && !TRY(driver->create, text(config), NULL, &self->driver))
        return;
    if (!self->has_topic) {
        octopus_create_topic_args args;
        memset(&args, 0, sizeof args);
        args.size = sizeof args;
        args.options = text("{\"replication_factor\": 1}");
        error = NULL;
        octopus_status status = octopus->driver->create_topic(self->driver, text(self->topic_name),
                                                              &args, &error);
        /* The response to an attempt under the limit may have been lost after the broker created
         * the topic. */
        if (status == OCTOPUS_TOPIC_EXISTS) {
            octopus->error->release(error);
            self->has_topic = 1;
        } else {
            self->has_topic = succeeds("driver->create_topic", status, &error);
        }
        if (!self->has_topic)
            return;
    }
    if (!self->topic &&
        !TRY(driver->open_topic, self->driver, text(self->topic_name), &self->topic))
        return;
    if (!self->pool)
        TRY(thread_pool->create, 3, &self->pool);
    if (!self->producer)
        TRY(topic->make_producer, self->topic, NULL, &self->producer);
    if (!self->consumer) {
        octopus_consumer_args args;
        memset(&args, 0, sizeof args);
        args.size = sizeof args;
        args.name = text(self->topic_name);
        TRY(topic->make_consumer, self->topic, &args, &self->consumer);
    }
}

static void push_one(program *self, int number, int64_t timeout_ms)
{
    octopus_error *error = NULL;
    if (!self->producer)
        return;
    octopus_push_args event;
    memset(&event, 0, sizeof event);
    event.size = sizeof event;
    event.metadata = (octopus_bytes){(const uint8_t *)"1", 1};
    if (!self->pushed[number])
        TRY(producer->push, self->producer, &event, &self->pushed[number]);
    octopus_completion completion = {count_completion, &self->completions, NULL};
    if (self->pushed[number] && !self->has_completion)
        self->has_completion = TRY(future->on_complete, self->pushed[number], &completion);
    octopus_status status = octopus->future->wait(self->pushed[number], timeout_ms, &error);
    if (status != OCTOPUS_TIMED_OUT || !is_limited)
        succeeds("future->wait", status, &error);
}

static void pull_all(program *self, uint64_t wanted, int64_t timeout_ms)
{
    while (self->consumer && self->pulled < wanted) {
        octopus_error *error = NULL;
        octopus_event *event = NULL;
        uint64_t found = 0;
        octopus_status status = octopus->consumer->pull_many(self->consumer, 1, timeout_ms, &event,
                                                             &found, &error);
        if (status == OCTOPUS_TIMED_OUT && is_limited)
            return;
        if (!succeeds("consumer->pull_many", status, &error))
            return;
        self->pulled += found;
        TRY(event->acknowledge, event);
        octopus->event->release(event);
    }
}

static void release(program *self)
{
    octopus_error *error;
    if (self->consumer)
        TRY(consumer->close, self->consumer, 60000);
    octopus->future->release(self->pushed[0]);
    octopus->future->release(self->pushed[1]);
    octopus->consumer->release(self->consumer);
    octopus->producer->release(self->producer);
    octopus->thread_pool->release(self->pool);
    octopus->topic->release(self->topic);
    octopus->driver->release(self->driver);
}

/* Counts the threads except those that the library keeps until the process ends. */
static long own_threads(void)
{
    DIR *tasks = opendir("/proc/self/task");
    EXPECT(tasks != NULL);
    long found = 0;
    for (struct dirent *task; (task = readdir(tasks));) {
        char path[300], name[32] = "";
        if (task->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "/proc/self/task/%s/comm", task->d_name);
        FILE *file = fopen(path, "r");
        /* The thread may have ended. */
        if (!file)
            continue;
        EXPECT(fgets(name, sizeof name, file) || feof(file) || ferror(file));
        fclose(file);
        found += strcmp(name, "octopus-exit\n") && strcmp(name, "octopus-callbac\n") &&
                 strcmp(name, "octopus-teardow\n");
    }
    closedir(tasks);
    return found;
}

static void expect_no_leaks(long descriptors)
{
    for (int tenths = 0; own_threads() > 1 || count("/proc/self/fd") > descriptors; tenths++) {
        if (tenths > 300) {
            fprintf(stderr,
                    "leaked: %ld threads and %ld descriptors are open, %ld were at the start\n",
                    own_threads(), count("/proc/self/fd"), descriptors);
            _exit(1);
        }
        nanosleep(&(struct timespec){0, 100 * 1000 * 1000}, NULL);
    }
}

static void run(const char *library, const char *topic_prefix, long number)
{
    octopus = load(library);
    char topic[200];
    snprintf(topic, sizeof topic, "%s-%ld", topic_prefix, number);
    if (!strcmp(kind, "user")) {
        /* RLIMIT_NPROC counts all threads of a user, so each process gets a separate one. */
        uid_t user = 50000 + (uid_t)getpid();
        EXPECT(setresuid(user, user, user) == 0);
        EXPECT(prctl(PR_SET_DUMPABLE, 1) == 0);
    }
    long descriptors = count("/proc/self/fd");
    program limited = {.topic_name = topic};

    limit(number);
    create(&limited);
    push_one(&limited, 0, 1500);
    pull_all(&limited, 1, 1500);
    int is_met = met || failed;
    lift();

    /* The objects that were created work, and the others can be created now. */
    create(&limited);
    push_one(&limited, 0, 60000);
    push_one(&limited, 1, 60000);
    pull_all(&limited, 2, 60000);
    for (int tenths = 0; limited.completions == 0; tenths++) {
        EXPECT(tenths < 300);
        nanosleep(&(struct timespec){0, 100 * 1000 * 1000}, NULL);
    }
    release(&limited);
    expect_no_leaks(descriptors);

    /* Releases everything while the limit is exhausted. */
    program again = {.topic_name = topic, .has_topic = 1};
    if (!strstr(config, "embedded")) {
        create(&again);
        limit(1);
        release(&again);
        /* `count` needs a descriptor. */
        if (!strcmp(kind, "descriptors")) {
            nanosleep(&(struct timespec){1, 0}, NULL);
            lift();
        }
        expect_no_leaks(descriptors);
        lift();
    }
    _exit(is_met ? 0 : NOT_MET);
}

int main(int argc, char **argv)
{
    EXPECT(argc == 7);
    config = argv[2];
    kind = argv[4];
    long number = atol(argv[5]), step = atol(argv[6]);
    int running = 0, met_by = 0, is_over = 0;
    while (running > 0 || !is_over) {
        if (!is_over && running < PROCESSES) {
            pid_t child = fork();
            EXPECT(child >= 0);
            if (child == 0) {
                /* A process that hangs is ended by a signal, which is a failure. */
                alarm(240);
                run(argv[1], argv[3], number);
            }
            running++;
            number += step;
            continue;
        }
        int status;
        pid_t child = wait(&status);
        EXPECT(child > 0);
        running--;
        if (!WIFEXITED(status) || (WEXITSTATUS(status) != 0 && WEXITSTATUS(status) != NOT_MET)) {
            fprintf(stderr, "a process before number %ld failed: status %x\n", number,
                    (unsigned)status);
            _exit(1);
        }
        if (WEXITSTATUS(status) == 0)
            met_by++;
        else
            is_over = 1;
    }
    printf("%d\n", met_by);
    return 0;
}
