/* Tests user-defined components: built into the C++ library, registered by this program, or loaded
 * from another library. */

#include "support.hpp"

#include <diaspora/BufferWrapperArchive.hpp>
#include <diaspora/InvalidMetadata.hpp>

#include <filesystem>
#include <map>
#include <mutex>

namespace {

using namespace support;
using test_cases::mentions;

/* An exception type that is not derived from std::exception. */
struct CustomException {
    std::string about;
};

/* Throws the exception that the metadata requests, if it requests it for the component `where`. */
void throw_requested(const Metadata &metadata, const std::string &where)
{
    const json &request = metadata.json();
    if (!request.is_object() || request.value("where", "") != where)
        return;
    const std::string what = request.at("throw");
    if (what == "int")
        throw 42;
    if (what == "complaint")
        throw CustomException{where};
    if (what == "domain_error")
        throw std::domain_error("from the " + where);
    throw diaspora::InvalidMetadata("from the " + where);
}

struct ThrowingValidator : diaspora::ValidatorInterface {
    inline static std::atomic<std::size_t> segments_seen{0};

    void validate(const Metadata &metadata, const diaspora::DataView &data) const override
    {
        throw_requested(metadata, "validator");
        if (text_of(data) == "unwanted")
            throw diaspora::Exception("unwanted data");
        segments_seen = data.segments().size();
    }
    Metadata metadata() const override { return Metadata{R"({"type": "moody"})"}; }
    static std::shared_ptr<diaspora::ValidatorInterface> create(const Metadata &metadata)
    {
        if (metadata.json().contains("broken"))
            throw std::out_of_range("it is broken");
        return std::make_shared<ThrowingValidator>();
    }
};

struct ThrowingSerializer : diaspora::SerializerInterface {
    void serialize(diaspora::Archive &archive, const Metadata &metadata) const override
    {
        throw_requested(metadata, "serializer");
        const std::string text = metadata.dump();
        archive.write(text.data(), text.size());
    }
    void deserialize(diaspora::Archive &archive, Metadata &metadata) const override
    {
        auto &buffer = dynamic_cast<diaspora::BufferWrapperInputArchive &>(archive).m_buffer;
        std::string text(buffer.size(), ' ');
        archive.read(text.data(), text.size());
        metadata = Metadata{text};
        throw_requested(metadata, "reader");
    }
    Metadata metadata() const override { return Metadata{R"({"type": "moody"})"}; }
    static std::shared_ptr<diaspora::SerializerInterface> create(const Metadata &)
    {
        return std::make_shared<ThrowingSerializer>();
    }
};

/* Selects the partitions round robin and records the order of the events. */
struct ThrowingSelector : diaspora::PartitionSelectorInterface {
    inline static std::mutex mutex;
    inline static std::map<const ThrowingSelector *, std::vector<unsigned>> asked;

    void setPartitions(const std::vector<diaspora::PartitionInfo> &targets) override
    {
        count_ = targets.size();
    }
    std::size_t selectPartitionFor(const Metadata &metadata,
                                   std::optional<std::size_t> requested) override
    {
        EXPECT(!is_being_called_.exchange(true));
        std::this_thread::sleep_for(std::chrono::microseconds(20));
        is_being_called_ = false;
        throw_requested(metadata, "selector");
        if (metadata.json().contains("number")) {
            const std::lock_guard<std::mutex> lock(mutex);
            asked[this].push_back(metadata.json()["number"]);
        }
        return requested ? *requested : last_++ % count_;
    }
    Metadata metadata() const override { return Metadata{R"({"type": "moody"})"}; }
    static std::shared_ptr<diaspora::PartitionSelectorInterface> create(const Metadata &)
    {
        return std::make_shared<ThrowingSelector>();
    }

private:
    std::atomic<bool> is_being_called_{false};
    std::size_t count_ = 0, last_ = 0;
};

DIASPORA_REGISTER_VALIDATOR(tests, moody, ThrowingValidator);
DIASPORA_REGISTER_SERIALIZER(tests, moody, ThrowingSerializer);
DIASPORA_REGISTER_PARTITION_SELECTOR(tests, moody, ThrowingSelector);

diaspora::Validator throwing_validator()
{
    return diaspora::Validator{std::make_shared<ThrowingValidator>()};
}
diaspora::PartitionSelector throwing_selector()
{
    return diaspora::PartitionSelector{std::make_shared<ThrowingSelector>()};
}
diaspora::Serializer throwing_serializer()
{
    return diaspora::Serializer{std::make_shared<ThrowingSerializer>()};
}

Metadata throw_in(const std::string &where, const std::string &what)
{
    return Metadata{json{{"where", where}, {"throw", what}}};
}

template <class T, class Future> T thrown_from(const Future &future)
{
    return THROWN_BY(T, future.wait(timeout_ms));
}

void component_exception_of_any_type_fails_its_push_only()
{
    const auto topic = new_topic(driver(), "moody", 2, throwing_validator(), throwing_selector(),
                                 throwing_serializer());
    for (const auto &pool : all_pools(topic.driver())) {
        const auto producer = producer_on(pool, topic);
        for (const std::string where : {"validator", "serializer", "selector"}) {
            const auto push = [&](const std::string &what) {
                return producer->push(throw_in(where, what), {}, {});
            };
            const auto failed = push("int");
            EXPECT(thrown_from<int>(failed) == 42 && thrown_from<int>(failed) == 42 &&
                   failed.completed());
            EXPECT(thrown_from<CustomException>(push("complaint")).about == where);
            EXPECT(mentions(thrown_from<std::domain_error>(push("domain_error")),
                            "from the " + where));
            EXPECT(mentions(thrown_from<diaspora::InvalidMetadata>(push("anything else")),
                            "from the " + where));
            EXPECT(producer->push(number(1), {}, {}).wait(timeout_ms));
            EXPECT(
                mentions(thrown_from<diaspora::Exception>(producer->flush()), "4 of the events"));
        }
        std::string unwanted = "unwanted", wanted = "wanted";
        EXPECT(mentions(
            thrown_from<diaspora::Exception>(producer->push(number(1), view(unwanted), {})),
            "unwanted data"));
        EXPECT(producer->push(number(1), view(wanted), {}).wait(timeout_ms));
    }
}

void selector_is_called_in_push_order_by_one_thread_at_a_time()
{
    constexpr unsigned count = 600;
    const auto topic = new_topic(driver(), "selector", 3, diaspora::Validator{},
                                 throwing_selector());
    unsigned pushed = 0;
    for (const auto &pool : all_pools(topic.driver())) {
        {
            const std::lock_guard<std::mutex> lock(ThrowingSelector::mutex);
            ThrowingSelector::asked.clear();
        }
        const auto producer = producer_on(pool, topic);
        for (unsigned value = 0; value < count; value++)
            producer->push(number(value), {}, {});
        EXPECT(producer->flush().wait(timeout_ms));
        const std::lock_guard<std::mutex> lock(ThrowingSelector::mutex);
        EXPECT(ThrowingSelector::asked.size() == 1 &&
               ThrowingSelector::asked.begin()->second == from_to(0, count));
        pushed += count;
    }
    /* Each partition has every third event of each producer, in order. */
    const auto consumer = topic.consumer(unique("reader"));
    std::map<unsigned, std::vector<unsigned>> partitions;
    for (unsigned index = 0; index < pushed; index++) {
        const auto event = next(consumer);
        partitions[event.partition().json().at("partition_id").get<unsigned>()].push_back(
            number_of(event));
    }
    for (const auto &[partition, numbers] : partitions)
        for (std::size_t index = 0; index < numbers.size(); index++)
            EXPECT(numbers[index] == index % (count / 3) * 3 + partition);
}

void validator_gets_pushed_segments_or_one_contiguous_copy()
{
    const auto topic = new_topic(driver(), "seen", 1, throwing_validator());
    std::string first = "in ", second = "two";
    for (const auto &pool : all_pools(topic.driver())) {
        const auto producer = producer_on(pool, topic);
        const diaspora::DataView in_two{
            {{first.data(), first.size()}, {second.data(), second.size()}}};
        EXPECT(producer->push(number(0), in_two, {}).wait(timeout_ms));
        EXPECT(ThrowingValidator::segments_seen == (pool ? 1 : 2));
        EXPECT(producer->push(number(0), {}, {}).wait(timeout_ms) &&
               ThrowingValidator::segments_seen <= (pool ? 1 : 0));
    }
}

void nonexistent_partition_fails_that_push_only()
{
    const auto topic = new_topic(driver(), "wrong", 2, diaspora::Validator{}, throwing_selector());
    const auto producer = topic.producer();
    for (const std::size_t wrong : {std::size_t{2}, std::numeric_limits<std::size_t>::max()})
        EXPECT(mentions(thrown_from<diaspora::Exception>(producer.push(number(0), {}, wrong)),
                        "partition"));
    EXPECT(producer.push(number(1), {}, 1).wait(timeout_ms) == 0U);
}

void unreadable_metadata_fails_that_pull_only()
{
    const auto topic = new_topic(driver(), "unreadable", 1, diaspora::Validator{},
                                 diaspora::PartitionSelector{}, throwing_serializer());
    const auto producer = topic.producer();
    for (const auto &metadata :
         {throw_in("reader", "int"), throw_in("reader", "domain_error"), number(3)})
        EXPECT(producer.push(metadata).wait(timeout_ms));
    const auto consumer = topic.consumer(unique("reader"));
    const auto failed = consumer.pull();
    EXPECT(thrown_from<int>(failed) == 42 && thrown_from<int>(failed) == 42);
    EXPECT(mentions(thrown_from<std::domain_error>(consumer.pull()), "from the reader"));
    EXPECT(number_of(next(consumer)) == 3);
}

void schemas_reject_invalid_events_and_survive_reopening()
{
    const Metadata schema{
        R"({"type": "schema", "schema": {"type": "object", "properties": {"number": {"type": "integer"}},
                              "required": ["number"]}})"};
    const auto own = driver();
    const auto topic = new_topic(own, "schema", 1, diaspora::Validator::FromMetadata(schema),
                                 diaspora::PartitionSelector{},
                                 diaspora::Serializer::FromMetadata(schema));
    const auto producer = driver().openTopic(topic.name()).producer();
    EXPECT(producer.push(number(1)).wait(timeout_ms));
    thrown_from<diaspora::Exception>(producer.push(Metadata{R"({"number": "one"})"}));
    EXPECT(number_of(next(topic.consumer(unique("reader")))) == 1);
    EXPECT(topic.validator().metadata().json().at("type") == "schema");
    const Metadata unopenable{
        R"({"type": "schema", "schema": {"type": "string", "format": "date"}})"};
    struct Raw : diaspora::ValidatorInterface {
        Metadata described;
        explicit Raw(Metadata metadata) : described(std::move(metadata)) {}
        void validate(const Metadata &, const diaspora::DataView &) const override {}
        Metadata metadata() const override { return described; }
    };
    EXPECT(mentions(THROWN_BY(diaspora::Exception,
                              new_topic(own, "format", 1,
                                        diaspora::Validator{std::make_shared<Raw>(unopenable)})),
                    "format"));
    EXPECT(!own.topicExists(prefix + "format"));
}

void component_that_cannot_be_created_is_a_named_error()
{
    const auto own = driver();
    struct Described : diaspora::ValidatorInterface {
        json described;
        explicit Described(json description) : described(std::move(description)) {}
        void validate(const Metadata &, const diaspora::DataView &) const override {}
        Metadata metadata() const override { return Metadata{described}; }
    };
    for (const auto &[name, description, reason] :
         {std::tuple{"broken", json{{"type", "moody"}, {"broken", true}}, "it is broken"},
          std::tuple{"absent", json{{"type", "absent:libabsent.so"}}, "libabsent.so"}}) {
        own.createTopic(prefix + name, topic_options(1),
                        diaspora::Validator{std::make_shared<Described>(description)});
        const auto why = THROWN_BY(diaspora::Exception, own.openTopic(prefix + name));
        EXPECT(mentions(why, "validator") && mentions(why, prefix + name) && mentions(why, reason));
    }
}

void components_of_another_library_are_loaded_by_type()
{
    /* ci/diaspora.sh builds it into the directory of this program. */
    const auto path = std::filesystem::read_symlink("/proc/self/exe").parent_path() / "libpicky.so";
    const json description = {{"type", "picky:" + path.string()}};
    const auto name = prefix + "loaded";
    driver().createTopic(name, topic_options(1),
                         diaspora::Validator::FromMetadata(Metadata{description}));
    const auto topic = driver().openTopic(name);
    EXPECT(topic.validator().metadata().json() == description);
    const auto producer = topic.producer();
    EXPECT(mentions(thrown_from<diaspora::Exception>(producer.push(Metadata{"\"bad\""})),
                    "library of its own"));
    EXPECT(producer.push(Metadata{"\"good\""}).wait(timeout_ms) == 0U);
}

void components_may_be_null_or_have_no_type()
{
    auto own = driver();
    const std::string name = prefix + "null";
    own.as<diaspora::DriverInterface>().createTopic(name, topic_options(1), nullptr, nullptr,
                                                    nullptr);
    const auto topic = own.openTopic(name);
    EXPECT(topic.validator().metadata().json() == json{{"type", "default"}});
    EXPECT(topic.producer().push(Metadata{"\"bare\""}).wait(timeout_ms) == 0U);
    EXPECT(next(topic.consumer(unique("reader"))).metadata().string() == "bare");
}

constexpr test_cases::TestCase all[] = {
    TEST_CASE(component_exception_of_any_type_fails_its_push_only),
    TEST_CASE(selector_is_called_in_push_order_by_one_thread_at_a_time),
    TEST_CASE(validator_gets_pushed_segments_or_one_contiguous_copy),
    TEST_CASE(nonexistent_partition_fails_that_push_only),
    TEST_CASE(unreadable_metadata_fails_that_pull_only),
    TEST_CASE(schemas_reject_invalid_events_and_survive_reopening),
    TEST_CASE(component_that_cannot_be_created_is_a_named_error),
    TEST_CASE(components_of_another_library_are_loaded_by_type),
    TEST_CASE(components_may_be_null_or_have_no_type),
};

} // namespace

int main(int argc, char **argv) { return support::run(argc, argv, all); }
