/*
 * A careless host: use after close, releases in any order, and two drivers of which one goes first.
 */

#include "strangers.h"

static void use_after_close(void)
{
    struct scene scene = new_scene("closed", "data");
    octopus_producer *producer = scene.producer;
    octopus_consumer *consumer = scene.consumer;
    octopus_push_args event = {.size = sizeof event};
    uint64_t pushed;

    SUCCEEDS(octopus->producer->close(producer, PATIENCE_MS, error));
    SLOT_GIVES(OCTOPUS_CLOSED, producer, push, producer, &event, &out.future);
    SLOT_GIVES(OCTOPUS_CLOSED, producer, push, producer, &event, NULL);
    SLOT_GIVES(OCTOPUS_CLOSED, producer, push_many, producer, &event, 1, out.futures, &pushed);
    SLOT_GIVES(OCTOPUS_CLOSED, producer, flush, producer, &out.future);
    SLOT_GIVES(OCTOPUS_CLOSED, producer, flush, producer, NULL);
    SLOT_GIVES(OCTOPUS_CLOSED, producer, max_event_size, producer, &out.number);
    SLOT_GIVES(OCTOPUS_CLOSED, producer, close, producer, 0);
    SUCCEEDS(octopus->future->wait(scene.push, 0, error)); /* results stay */
    SUCCEEDS(octopus->future->wait(scene.flush, 0, error));

    octopus_future *unused;
    int32_t is_complete;
    SUCCEEDS(octopus->consumer->pull(consumer, &unused, error));
    SUCCEEDS(octopus->consumer->close(consumer, PATIENCE_MS, error));
    octopus_processor processor = {.function = stop};
    SLOT_GIVES(OCTOPUS_CLOSED, consumer, pull, consumer, &out.future);
    SLOT_GIVES(OCTOPUS_CLOSED, consumer, pull_many, consumer, 1, 0, out.events, &out.number);
    SLOT_GIVES(OCTOPUS_CLOSED, consumer, process, consumer, &processor, 0, 1, NULL);
    SLOT_GIVES(OCTOPUS_CLOSED, consumer, commit, consumer, 0);
    SLOT_GIVES(OCTOPUS_CLOSED, consumer, position, consumer, 0, &out.number);
    SLOT_GIVES(OCTOPUS_CLOSED, consumer, committed, consumer, 0, &out.number);
    SLOT_GIVES(OCTOPUS_CLOSED, consumer, lag, consumer, 0, &out.number);
    SLOT_GIVES(OCTOPUS_CLOSED, consumer, seek, consumer, 0, 0);
    SLOT_GIVES(OCTOPUS_CLOSED, consumer, assignment, consumer, out.array, 2, &out.number);
    SLOT_GIVES(OCTOPUS_CLOSED, consumer, unsubscribe, consumer);
    SLOT_GIVES(OCTOPUS_CLOSED, consumer, close, consumer, 0);
    SLOT_GIVES(OCTOPUS_CLOSED, future, wait, unused, -1);
    SUCCEEDS(octopus->future->test(unused, &is_complete, error));
    EXPECT(is_complete == 1);
    octopus->future->release(unused);
    SUCCEEDS(octopus->future->wait(scene.pull, 0, error));
    check_event(scene.event, "{}", "data");
    SLOT_GIVES(OCTOPUS_STALE, event, acknowledge, scene.event);
    release_scene(&scene);
    printf("what was closed says so in every slot; what was read from it stays\n");
}

/* Whatever went before it, what is left works. */
static void use_what_is_left(const struct scene *scene)
{
    octopus_string *json;
    octopus_text name;
    octopus_event *event;
    uint64_t number;
    if (scene->driver) {
        SUCCEEDS(octopus->driver->describe(scene->driver, &json, error));
        EXPECT(octopus->string->view(json).size > 2);
        octopus->string->release(json);
    }
    if (scene->topic) {
        SUCCEEDS(octopus->topic->name(scene->topic, &name, error));
        EXPECT(is("orders", name.data, name.size));
    }
    if (scene->producer)
        octopus->future->release(push(scene->producer, scene->data));
    if (scene->push) {
        SUCCEEDS(octopus->future->event_id(scene->push, &number, error));
        EXPECT(number == 0);
    }
    if (scene->flush)
        SUCCEEDS(octopus->future->wait(scene->flush, INT64_MIN, error));
    if (scene->consumer) {
        octopus_future *ticket;
        SUCCEEDS(octopus->consumer->pull(scene->consumer, &ticket, error));
        if (scene->producer && !scene->topic && !scene->driver) /* it has pushed above; takes half a second */
            SUCCEEDS(octopus->future->wait(ticket, PATIENCE_MS, error));
        octopus->future->release(ticket);
    }
    if (scene->pull) {
        SUCCEEDS(octopus->future->event(scene->pull, &event, error));
        check_event(event, "{}", scene->data);
        octopus->event->release(event);
    }
    if (scene->event)
        check_event(scene->event, "{}", scene->data);
}

static void release_in_any_order(void)
{
    for (int first = 0; first < KINDS; first++) {
        struct scene scene = new_scene("orders", "data");
        octopus->event->retain(scene.event);
        octopus->event->release(scene.event);
        octopus->future->retain(scene.push);
        octopus->future->release(scene.push);
        int step = 2 * first + 1; /* odd, so each kind has its turn: the first time onwards, the last time backwards */
        for (int turn = 0; turn < KINDS; turn++) {
            use_what_is_left(&scene);
            release_kind(&scene, (first + turn * step) % KINDS);
        }
    }
    printf("handles are released in any order, and what is left works\n");
}

static void run_two_drivers(void)
{
    int32_t exists;
    octopus_topic *topic;
    struct scene one = new_scene("twins", "data of one"), other = new_scene("twins", "data of the other");
    check_event(one.event, "{}", "data of one");
    check_event(other.event, "{}", "data of the other");

    SUCCEEDS(octopus->driver->create_topic(one.driver, text("only-one"), NULL, error));
    SUCCEEDS(octopus->driver->topic_exists(one.driver, text("only-one"), &exists, error));
    EXPECT(exists == 1);
    SUCCEEDS(octopus->driver->topic_exists(other.driver, text("only-one"), &exists, error));
    EXPECT(exists == 0);
    GIVES(OCTOPUS_UNKNOWN_TOPIC, octopus->driver->open_topic(other.driver, text("only-one"), &out.topic, error));

    release_scene(&one);
    octopus->future->release(push(other.producer, "more data"));
    octopus_future *ticket = pull(other.consumer);
    octopus_event *event = event_of(ticket);
    check_event(event, "{}", "more data");
    octopus->event->release(event);
    octopus->future->release(ticket);
    SUCCEEDS(octopus->driver->open_topic(other.driver, text("twins"), &topic, error));
    octopus->topic->release(topic);
    release_scene(&other);
    printf("two drivers know nothing of each other, and one outlives the other\n");
}

static void live_and_die(void)
{
    use_after_close();
    release_in_any_order();
    run_two_drivers();
}

int main(int argc, char **argv)
{
    return run_all(argc, argv, live_and_die);
}
