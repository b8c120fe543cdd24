/*
 * A host that creates processes by fork, _Fork, vfork and posix_spawn while events are in flight,
 * also from threads and callbacks. No child hangs, calls in a forked child return OCTOPUS_FORKED,
 * no child inherits a descriptor, and the parent loses no events.
 *
 *     forking LIBRARY CONFIG TOPIC
 */
#include "host.h"

#include <dirent.h>
#include <pthread.h>
#include <spawn.h>
#include <stdatomic.h>
#include <sys/wait.h>

enum { ROUNDS = 20, TIMEOUT_S = 20, SUCCESS = 7 };

extern char **environ;

static const octopus_api *octopus;
static octopus_driver *driver;
static octopus_topic *topic;
static octopus_producer *producer;
static octopus_consumer *consumer;
static char *self;

/* ---- children -------------------------------------------------------------------------------- */

/* Must not allocate: a thread of the parent may have held the allocator's lock at the fork. */
static void check_rejected(void)
{
    alarm(TIMEOUT_S); /* a child that hangs is ended by a signal */
    octopus_push_args event = {.size = sizeof event};
    EXPECT(octopus->producer->push(producer, &event, NULL, NULL) == OCTOPUS_FORKED);
    EXPECT(octopus->consumer->close(consumer, -1, NULL) == OCTOPUS_FORKED);
    octopus->producer->release(producer);
    octopus->driver->release(driver);
}

static void check_error_in_child(void)
{
    octopus_error *error;
    int32_t exists;
    check_rejected();
    EXPECT(octopus->driver->topic_exists(driver, text("topic"), &exists, &error) == OCTOPUS_FORKED);
    EXPECT(octopus->error->code(error) == OCTOPUS_FORKED &&
           octopus->error->message(error).size > 0);
    octopus->error->release(error);
}

/* Runs after exec. Only the three standard descriptors may be open. */
static int check_descriptors(void)
{
    int count = 0;
    DIR *folder = opendir("/proc/self/fd");
    EXPECT(folder != NULL);
    for (struct dirent *entry; (entry = readdir(folder));) {
        char path[300], what[300] = "";
        int descriptor = atoi(entry->d_name);
        if (descriptor <= 2 || descriptor == dirfd(folder))
            continue;
        snprintf(path, sizeof path, "/proc/self/fd/%d", descriptor);
        EXPECT(readlink(path, what, sizeof what - 1) > 0);
        fprintf(stderr, "inherited: %d, %s\n", descriptor, what);
        count++;
    }
    closedir(folder);
    return count == 0 ? SUCCESS : 1;
}

static void execute_self(void)
{
    execv(self, (char *[]){self, "check descriptors", NULL});
    _exit(1);
}

/* ---- ways to create a child ------------------------------------------------------------------ */

static void await(pid_t child)
{
    int status;
    EXPECT(child > 0 && waitpid(child, &status, 0) == child);
    EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == SUCCESS);
}

static void fork_and_exit(void)
{
    pid_t child = fork();
    if (child == 0) {
        alarm(TIMEOUT_S);
        exit(SUCCESS); /* runs atexit handlers and destructors, with all handles open */
    }
    await(child);
}

static void fork_and_use(void)
{
    pid_t child = fork();
    if (child == 0) {
        check_error_in_child();
        pid_t grandchild = fork();
        if (grandchild != 0)
            await(grandchild);
        check_error_in_child();
        exit(SUCCESS);
    }
    await(child);
}

/* _Fork does not run the handlers of pthread_atfork, nor those of malloc. */
static void fork_without_handlers_and_use(void)
{
    pid_t child = _Fork();
    if (child == 0) {
        octopus_driver *another;
        check_rejected();
        EXPECT(octopus->driver->create(text("{\"embedded\": {}}"), NULL, &another, NULL) ==
               OCTOPUS_FORKED);
        _exit(SUCCESS);
    }
    await(child);
}

static void fork_and_exec(void)
{
    pid_t child = fork();
    if (child == 0)
        execute_self();
    await(child);
}

static void vfork_and_exec(void)
{
    pid_t child = vfork();
    if (child == 0)
        execute_self();
    await(child);
}

static void spawn(void)
{
    pid_t child;
    EXPECT(posix_spawn(&child, self, NULL, NULL, (char *[]){self, "check descriptors", NULL},
                       environ) == 0);
    await(child);
}

static void run_all(void)
{
    fork_and_exit();
    fork_and_use();
    fork_without_handlers_and_use();
    fork_and_exec();
    vfork_and_exec();
    spawn();
}

static void *run_all_on_thread(void *unused)
{
    (void)unused;
    run_all();
    return NULL;
}

static atomic_int called;

static void run_all_in_callback(void *context, octopus_future *future)
{
    (void)context, (void)future;
    run_all();
    atomic_fetch_add(&called, 1);
}

/* ---- the parent ------------------------------------------------------------------------------ */

static atomic_int is_over;
static uint64_t pushed;

static void *push_until_over(void *unused)
{
    (void)unused;
    while (!atomic_load(&is_over))
        octopus->future->release(push(octopus, producer, pushed++));
    return NULL;
}

/* A child can use the library if the parent has not used it before the fork. */
static void use_in_child_before_parent(const char *library)
{
    pid_t child = fork();
    if (child == 0) {
        octopus = load(library);
        driver = make_driver(octopus, "{\"embedded\": {}}", NULL);
        topic = make_topic(octopus, driver, "topic");
        deliver(octopus, make_producer(octopus, topic), 0);
        _exit(SUCCESS);
    }
    await(child);
}

int main(int argc, char **argv)
{
    self = argv[0];
    if (argc == 2)
        return check_descriptors();
    if (argc != 4)
        return fprintf(stderr, "usage: %s LIBRARY CONFIG TOPIC\n", argv[0]), 1;
    closefrom(3); /* descriptors that this process inherited */
    use_in_child_before_parent(argv[1]);
    octopus = load(argv[1]);
    driver = make_driver(octopus, argv[2], NULL);
    topic = make_topic(octopus, driver, argv[3]);
    producer = make_producer(octopus, topic);
    consumer = make_consumer(octopus, topic, argv[3]);
    octopus_completion completion = {.function = run_all_in_callback};

    pthread_t pushing, other;
    EXPECT(pthread_create(&pushing, NULL, push_until_over, NULL) == 0);
    for (int round = 0; round < ROUNDS; round++) {
        octopus_future *flush;
        run_all();
        EXPECT(pthread_create(&other, NULL, run_all_on_thread, NULL) == 0);
        SUCCEEDS(octopus, octopus->producer->flush(producer, &flush, error));
        SUCCEEDS(octopus, octopus->future->on_complete(flush, &completion, error));
        octopus->future->release(flush);
        EXPECT(pthread_join(other, NULL) == 0);
    }
    while (atomic_load(&called) < ROUNDS)
        usleep(1000);
    atomic_store(&is_over, 1);
    EXPECT(pthread_join(pushing, NULL) == 0);
    SUCCEEDS(octopus, octopus->producer->close(producer, 60000, error));

    for (uint64_t expected = 0; expected < pushed; expected++)
        EXPECT(pull(octopus, consumer) == expected);
    SUCCEEDS(octopus, octopus->consumer->close(consumer, 60000, error));
    octopus->consumer->release(consumer);
    octopus->producer->release(producer);
    octopus->topic->release(topic);
    octopus->driver->release(driver);
    puts("calls in each child returned OCTOPUS_FORKED, and the parent lost no events");
    return 0;
}
