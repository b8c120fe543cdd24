/* Drivers and topics through the C++ API: making, finding, listing, what getters give, pools, and what is refused. */

#include "support.hpp"

namespace {

using namespace support;
using promises::mentions;

void topics_are_made_found_and_listed_with_their_components()
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
    EXPECT(topics.at("first").json() ==
           json{{"validator", usual}, {"selector", usual}, {"serializer", usual}, {"num_partitions", 3}});
    EXPECT(topics.at("second").json().at("validator") == schema.json());
    EXPECT(mentions(THROWN_BY(diaspora::Exception, own.createTopic("first", topic_options(1))), "first"));
    EXPECT(mentions(THROWN_BY(diaspora::Exception, driver({{"open_retry_ms", 0}}).openTopic("first")), "first"));
    EXPECT(own.openTopic("first").partitions().size() == 3);
}

void a_hundred_topics_are_made_quickly_and_listed_within_three_seconds()
{
    using std::chrono::steady_clock;
    const auto own = driver({{"namespace", prefix + "hundred"}});
    const auto begun = steady_clock::now();
    for (unsigned index = 0; index < 100; index++)
        own.createTopic("topic-" + std::to_string(index), topic_options(1));
    const auto made = steady_clock::now();
    EXPECT(own.listTopics().size() == 100);
    EXPECT(steady_clock::now() - made < std::chrono::seconds(3) && made - begun < std::chrono::seconds(60));
}

void a_topic_that_is_made_a_moment_later_is_found_by_who_opens_it_now()
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

void of_eight_creators_one_makes_the_topic_and_it_has_that_ones_components()
{
    const auto name = prefix + "raced";
    std::atomic<int> winner{-1}, refused{0};
    std::vector<std::thread> creators;
    for (int index = 0; index < 8; index++)
        creators.emplace_back([&, index] {
            const Metadata schema{json{{"type", "schema"}, {"schema", {{"title", std::to_string(index)}}}}};
            try {
                driver().createTopic(name, topic_options(1), diaspora::Validator::FromMetadata(schema));
                winner = index;
            } catch (const diaspora::Exception &) {
                refused++;
            }
        });
    for (auto &creator : creators)
        creator.join();
    EXPECT(refused == 7);
    EXPECT(driver().openTopic(name).validator().metadata().json().at("schema").at("title") == std::to_string(winner));
}

void getters_give_the_very_objects_that_were_given()
{
    auto own = driver();
    auto &interface = own.as<diaspora::DriverInterface>();
    const auto opened = new_topic(own, "getters", 2);
    const auto topic = interface.openTopic(opened.name());
    EXPECT(topic->driver().get() == &interface && topic->name() == opened.name());
    const auto pool = std::make_shared<diaspora::PosixThreadPool>(diaspora::ThreadCount{2});
    const auto producer = topic->makeProducer("the producer", diaspora::BatchSize{7}, diaspora::MaxNumBatches{3},
                                              diaspora::Ordering::Loose, pool, Metadata{});
    EXPECT(producer->name() == "the producer" && producer->topic() == topic && producer->threadPool() == pool);
    EXPECT(producer->batchSize().value == 7 && producer->maxNumBatches().value == 3);
    EXPECT(producer->ordering() == diaspora::Ordering::Loose);
    const diaspora::DataAllocator allocator = [](const Metadata &, const diaspora::DataDescriptor &) { return diaspora::DataView{}; };
    const auto consumer = topic->makeConsumer("the consumer", diaspora::BatchSize::Adaptive(), diaspora::MaxNumBatches{4}, pool,
                                              allocator, {}, {}, Metadata{});
    EXPECT(consumer->name() == "the consumer" && consumer->topic() == topic && consumer->threadPool() == pool);
    EXPECT(consumer->batchSize() == diaspora::BatchSize::Adaptive() && consumer->maxNumBatches().value == 4);
    EXPECT(consumer->dataAllocator() && !consumer->dataSelector());
}

void the_default_pool_is_one_without_threads_and_made_pools_are_new()
{
    auto own = driver();
    auto &interface = own.as<diaspora::DriverInterface>();
    EXPECT(interface.defaultThreadPool() == interface.defaultThreadPool() && own.defaultThreadPool().threadCount().count == 0);
    EXPECT(interface.makeThreadPool(diaspora::ThreadCount{1}) != interface.makeThreadPool(diaspora::ThreadCount{1}));
    const auto topic = interface.openTopic(new_topic(own, "default-pool", 1).name());
    EXPECT(topic->makeProducer("p", diaspora::BatchSize{0}, diaspora::MaxNumBatches{0}, diaspora::Ordering::Strict, nullptr, Metadata{})->threadPool() == interface.defaultThreadPool());
    EXPECT(topic->makeConsumer("c", diaspora::BatchSize{0}, diaspora::MaxNumBatches{0}, nullptr, {}, {}, {}, Metadata{})->threadPool() == interface.defaultThreadPool());

    std::thread::id ran_on;
    own.defaultThreadPool().pushWork([&] { ran_on = std::this_thread::get_id(); });
    EXPECT(ran_on == std::this_thread::get_id());
    THROWN_BY(std::domain_error, own.defaultThreadPool().pushWork([] { throw std::domain_error("out of here"); }));
    const auto pool = own.makeThreadPool(diaspora::ThreadCount{1});
    EXPECT(pool.threadCount().count == 1);
    promises::Countdown held(1), done(4);
    std::vector<int> order;
    pool.pushWork([&] { EXPECT(held.is_over_within(std::chrono::milliseconds(patience_ms))); });
    const auto note = [&](int what) { return [&, what] { order.push_back(what); done.hit(); }; };
    pool.pushWork(note(3), 1);
    pool.pushWork(note(2), 5);
    pool.pushWork(note(0));
    pool.pushWork(note(1));
    EXPECT(pool.size() == 5);
    held.hit();
    EXPECT(done.is_over_within(std::chrono::milliseconds(patience_ms)) && order == std::vector<int>{0, 1, 2, 3});
    EXPECT(mentions(THROWN_BY(diaspora::Exception, pool.pushWork({})), "empty"));
}

void a_pool_of_the_users_goes_with_its_last_user_on_whichever_thread_that_is()
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
        EXPECT(pushed.wait(patience_ms));
    pushes.clear();
    for (unsigned waited = 0; !gone.expired() && waited < 30'000; waited += 10)
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    EXPECT(gone.expired());
}

void without_an_info_topic_only_default_components_are_accepted()
{
    const auto own = driver({{"disable_info_topic", true}});
    const auto name = prefix + "no-info";
    own.createTopic(name, topic_options(1));
    EXPECT(own.openTopic(name).validator().metadata().json() == json{{"type", "default"}});
    EXPECT(own.listTopics().count(name) == 0);
    const Metadata schema{R"({"type": "schema", "schema": {}})"};
    EXPECT(mentions(THROWN_BY(diaspora::Exception, own.createTopic(name + "2", topic_options(1), diaspora::Validator::FromMetadata(schema))), "disable_info_topic"));
}

void what_is_configured_wrongly_is_refused_by_name()
{
    const auto refused = [](const json &options) {
        return THROWN_BY(diaspora::Exception, diaspora::Driver::New(("octopus:" + library).c_str(), Metadata{options}));
    };
    EXPECT(mentions(refused(json::array()), "object"));
    EXPECT(mentions(refused({{"kafka", 3}}), "kafka"));
    EXPECT(mentions(refused({{"kafka", json::object()}}), "bootstrap.servers"));
    EXPECT(mentions(refused({{"kafka", {{"bootstrap.servers", 3}}}}), "bootstrap.servers"));
    EXPECT(mentions(refused({{"kafka", {{"bootstrap.servers", servers}}}, {"namespace", 3}}), "namespace"));
    /* What diaspora-ctl makes of --driver.kafka.bootstrap.servers, and of numbers. */
    const auto nested = diaspora::Driver::New(
        ("octopus:" + library).c_str(),
        Metadata{json{{"kafka", {{"bootstrap", {{"servers", servers}}}}}, {"disable_info_topic", "false"}}});
    nested.createTopic(prefix + "nested", Metadata{json{{"replication_factor", "1"}, {"num_partitions", "2"}}});
    EXPECT(nested.openTopic(prefix + "nested").partitions().size() == 2);
    for (const json &wrong : {json(0), json(-1), json("many")})
        EXPECT(mentions(THROWN_BY(diaspora::Exception, driver().createTopic(prefix + "wrong", Metadata{json{{"num_partitions", wrong}}})), "num_partitions"));
    EXPECT(mentions(THROWN_BY(diaspora::Exception, driver().createTopic(prefix + "wrong", Metadata{json::array()})), "object"));
    EXPECT(mentions(THROWN_BY(diaspora::Exception, driver().createTopic(prefix + "wrong")), "replication_factor"));
}

constexpr promises::Promise all[] = {
    PROMISE(topics_are_made_found_and_listed_with_their_components),
    PROMISE(a_hundred_topics_are_made_quickly_and_listed_within_three_seconds),
    PROMISE(a_topic_that_is_made_a_moment_later_is_found_by_who_opens_it_now),
    PROMISE(of_eight_creators_one_makes_the_topic_and_it_has_that_ones_components),
    PROMISE(getters_give_the_very_objects_that_were_given),
    PROMISE(the_default_pool_is_one_without_threads_and_made_pools_are_new),
    PROMISE(a_pool_of_the_users_goes_with_its_last_user_on_whichever_thread_that_is),
    PROMISE(without_an_info_topic_only_default_components_are_accepted),
    PROMISE(what_is_configured_wrongly_is_refused_by_name),
};

} // namespace

int main(int argc, char **argv) { return support::run(argc, argv, all); }
