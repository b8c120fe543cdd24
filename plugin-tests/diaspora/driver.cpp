/* Tests drivers and topics through the C++ API: creating, finding, listing, getters, thread pools,
 * and invalid arguments. */

#include "support.hpp"

namespace {

using namespace support;
using test_cases::mentions;

void topics_are_created_found_and_listed_with_components()
{
    const auto own = driver({{"namespace", prefix + "listed"}});
    EXPECT(own.listTopics().empty() && !own.topicExists("first"));
    own.createTopic("first", topic_options(3));
    const Metadata schema{R"({"type": "schema", "schema": {"type": "object"}})"};
    own.createTopic("second", topic_options(1), diaspora::Validator::FromMetadata(schema));
    EXPECT(own.topicExists("first") && !own.topicExists("third"));
    const auto topics = own.listTopics();
    EXPECT(topics.size() == 2);
    const json usual = {{"type", "default"}};
    EXPECT(topics.at("first").json() == json{{"validator", usual},
                                             {"selector", usual},
                                             {"serializer", usual},
                                             {"num_partitions", 3}});
    EXPECT(topics.at("second").json().at("validator") == schema.json());
    EXPECT(mentions(THROWN_BY(diaspora::Exception, own.createTopic("first", topic_options(1))),
                    "first"));
    EXPECT(
        mentions(THROWN_BY(diaspora::Exception, driver({{"open_retry_ms", 0}}).openTopic("first")),
                 "first"));
    EXPECT(own.openTopic("first").partitions().size() == 3);
}

void hundred_topics_are_listed_within_three_seconds()
{
    using std::chrono::steady_clock;
    const auto own = driver({{"namespace", prefix + "hundred"}});
    const auto begun = steady_clock::now();
    for (unsigned index = 0; index < 100; index++)
        own.createTopic("topic-" + std::to_string(index), topic_options(1));
    const auto made = steady_clock::now();
    EXPECT(own.listTopics().size() == 100);
    EXPECT(steady_clock::now() - made < std::chrono::seconds(3) &&
           made - begun < std::chrono::seconds(60));
}

void open_topic_waits_for_topic_created_a_moment_later()
{
    const auto own = driver();
    const auto name = prefix + "later";
    std::thread maker([&] {
        std::this_thread::sleep_for(std::chrono::seconds(1));
        driver().createTopic(name, topic_options(1));
    });
    const auto topic = own.openTopic(name);
    maker.join();
    EXPECT(topic.name() == name);
}

void one_of_eight_creators_wins_and_its_components_apply()
{
    const auto name = prefix + "raced";
    std::atomic<int> winner{-1}, refused{0};
    std::vector<std::thread> creators;
    for (int index = 0; index < 8; index++)
        creators.emplace_back([&, index] {
            const Metadata schema{
                json{{"type", "schema"}, {"schema", {{"title", std::to_string(index)}}}}};
            try {
                driver().createTopic(name, topic_options(1),
                                     diaspora::Validator::FromMetadata(schema));
                winner = index;
            } catch (const diaspora::Exception &) {
                refused++;
            }
        });
    for (auto &creator : creators)
        creator.join();
    EXPECT(refused == 7);
    EXPECT(driver().openTopic(name).validator().metadata().json().at("schema").at("title") ==
           std::to_string(winner));
}

void getters_return_the_same_objects_that_were_passed()
{
    auto own = driver();
    auto &interface = own.as<diaspora::DriverInterface>();
    const auto opened = new_topic(own, "getters", 2);
    const auto topic = interface.openTopic(opened.name());
    EXPECT(topic->driver().get() == &interface && topic->name() == opened.name());
    const auto pool = std::make_shared<diaspora::PosixThreadPool>(diaspora::ThreadCount{2});
    const auto producer = topic->makeProducer("the producer", diaspora::BatchSize{7},
                                              diaspora::MaxNumBatches{3}, diaspora::Ordering::Loose,
                                              pool, Metadata{});
    EXPECT(producer->name() == "the producer" && producer->topic() == topic &&
           producer->threadPool() == pool);
    EXPECT(producer->batchSize().value == 7 && producer->maxNumBatches().value == 3);
    EXPECT(producer->ordering() == diaspora::Ordering::Loose);
    const diaspora::DataAllocator allocator =
        [](const Metadata &, const diaspora::DataDescriptor &) { return diaspora::DataView{}; };
    const auto consumer = topic->makeConsumer("the consumer", diaspora::BatchSize::Adaptive(),
                                              diaspora::MaxNumBatches{4}, pool, allocator, {}, {},
                                              Metadata{});
    EXPECT(consumer->name() == "the consumer" && consumer->topic() == topic &&
           consumer->threadPool() == pool);
    EXPECT(consumer->batchSize() == diaspora::BatchSize::Adaptive() &&
           consumer->maxNumBatches().value == 4);
    EXPECT(consumer->dataAllocator() && !consumer->dataSelector());
}

void default_pool_has_no_threads_and_created_pools_are_new()
{
    auto own = driver();
    auto &interface = own.as<diaspora::DriverInterface>();
    EXPECT(interface.defaultThreadPool() == interface.defaultThreadPool() &&
           own.defaultThreadPool().threadCount().count == 0);
    EXPECT(interface.makeThreadPool(diaspora::ThreadCount{1}) !=
           interface.makeThreadPool(diaspora::ThreadCount{1}));
    const auto topic = interface.openTopic(new_topic(own, "default-pool", 1).name());
    EXPECT(topic
               ->makeProducer("p", diaspora::BatchSize{0}, diaspora::MaxNumBatches{0},
                              diaspora::Ordering::Strict, nullptr, Metadata{})
               ->threadPool() == interface.defaultThreadPool());
    EXPECT(topic
               ->makeConsumer("c", diaspora::BatchSize{0}, diaspora::MaxNumBatches{0}, nullptr, {},
                              {}, {}, Metadata{})
               ->threadPool() == interface.defaultThreadPool());

    std::thread::id ran_on;
    own.defaultThreadPool().pushWork([&] { ran_on = std::this_thread::get_id(); });
    EXPECT(ran_on == std::this_thread::get_id());
    THROWN_BY(std::domain_error,
              own.defaultThreadPool().pushWork([] { throw std::domain_error("out of here"); }));
    const auto pool = own.makeThreadPool(diaspora::ThreadCount{1});
    EXPECT(pool.threadCount().count == 1);
    test_cases::Countdown held(1), done(4);
    std::vector<int> order;
    pool.pushWork([&] { EXPECT(held.is_over_within(std::chrono::milliseconds(timeout_ms))); });
    const auto note = [&](int what) {
        return [&, what] {
            order.push_back(what);
            done.hit();
        };
    };
    pool.pushWork(note(3), 1);
    pool.pushWork(note(2), 5);
    pool.pushWork(note(0));
    pool.pushWork(note(1));
    EXPECT(pool.size() == 5);
    held.hit();
    EXPECT(done.is_over_within(std::chrono::milliseconds(timeout_ms)) &&
           order == std::vector<int>{0, 1, 2, 3});
    EXPECT(mentions(THROWN_BY(diaspora::Exception, pool.pushWork({})), "empty"));
}

void user_pool_is_released_with_its_last_user_on_any_thread()
{
    const auto topic = new_topic("pool-gone", 1);
    std::weak_ptr<diaspora::PosixThreadPool> gone;
    std::vector<diaspora::Future<std::optional<diaspora::EventID>>> pushes;
    {
        const auto pool = std::make_shared<diaspora::PosixThreadPool>(diaspora::ThreadCount{2});
        gone = pool;
        const auto producer = producer_on(pool, topic);
        for (unsigned value = 0; value < 300; value++)
            pushes.push_back(producer->push(number(value), {}, {}));
    }
    for (const auto &pushed : pushes)
        EXPECT(pushed.wait(timeout_ms));
    pushes.clear();
    for (unsigned waited = 0; !gone.expired() && waited < 30'000; waited += 10)
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    EXPECT(gone.expired());
}

void without_info_topic_only_default_components_are_accepted()
{
    const auto own = driver({{"disable_info_topic", true}});
    const auto name = prefix + "no-info";
    own.createTopic(name, topic_options(1));
    EXPECT(own.openTopic(name).validator().metadata().json() == json{{"type", "default"}});
    EXPECT(own.listTopics().count(name) == 0);
    const Metadata schema{R"({"type": "schema", "schema": {}})"};
    EXPECT(mentions(
        THROWN_BY(diaspora::Exception, own.createTopic(name + "2", topic_options(1),
                                                       diaspora::Validator::FromMetadata(schema))),
        "disable_info_topic"));
}

void invalid_configuration_is_rejected_naming_the_key()
{
    const auto refused = [](const json &options) {
        return THROWN_BY(diaspora::Exception,
                         diaspora::Driver::New(("octopus:" + library).c_str(), Metadata{options}));
    };
    EXPECT(mentions(refused(json::array()), "object"));
    EXPECT(mentions(refused({{"kafka", 3}}), "kafka"));
    EXPECT(mentions(refused({{"kafka", json::object()}}), "bootstrap.servers"));
    EXPECT(mentions(refused({{"kafka", {{"bootstrap.servers", 3}}}}), "bootstrap.servers"));
    EXPECT(mentions(refused({{"kafka", {{"bootstrap.servers", servers}}}, {"namespace", 3}}),
                    "namespace"));
    /* diaspora-ctl turns --driver.kafka.bootstrap.servers into nested objects, and numbers into
     * strings. */
    const auto nested = diaspora::Driver::New(
        ("octopus:" + library).c_str(),
        Metadata{json{{"kafka", {{"bootstrap", {{"servers", servers}}}}},
                      {"disable_info_topic", "false"}}});
    nested.createTopic(prefix + "nested",
                       Metadata{json{{"replication_factor", "1"}, {"num_partitions", "2"}}});
    EXPECT(nested.openTopic(prefix + "nested").partitions().size() == 2);
    for (const json &wrong : {json(0), json(-1), json("many")})
        EXPECT(mentions(THROWN_BY(diaspora::Exception,
                                  driver().createTopic(prefix + "wrong",
                                                       Metadata{json{{"num_partitions", wrong}}})),
                        "num_partitions"));
    EXPECT(mentions(THROWN_BY(diaspora::Exception,
                              driver().createTopic(prefix + "wrong", Metadata{json::array()})),
                    "object"));
    EXPECT(mentions(THROWN_BY(diaspora::Exception, driver().createTopic(prefix + "wrong")),
                    "replication_factor"));
}

constexpr test_cases::TestCase all[] = {
    TEST_CASE(topics_are_created_found_and_listed_with_components),
    TEST_CASE(hundred_topics_are_listed_within_three_seconds),
    TEST_CASE(open_topic_waits_for_topic_created_a_moment_later),
    TEST_CASE(one_of_eight_creators_wins_and_its_components_apply),
    TEST_CASE(getters_return_the_same_objects_that_were_passed),
    TEST_CASE(default_pool_has_no_threads_and_created_pools_are_new),
    TEST_CASE(user_pool_is_released_with_its_last_user_on_any_thread),
    TEST_CASE(without_info_topic_only_default_components_are_accepted),
    TEST_CASE(invalid_configuration_is_rejected_naming_the_key),
};

} // namespace

int main(int argc, char **argv) { return support::run(argc, argv, all); }
