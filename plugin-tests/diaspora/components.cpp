/* Components stay the user's: built in the C++ library, registered by this program, or loaded by it from another library. */

#include "support.hpp"

#include <diaspora/BufferWrapperArchive.hpp>
#include <diaspora/InvalidMetadata.hpp>

#include <filesystem>
#include <map>
#include <mutex>

namespace {

using namespace support;
using promises::mentions;

/* Thrown by value, and no std::exception. */
struct Complaint {
    std::string about;
};

/* Throws what the metadata says, wherever it is asked. */
void throw_as_told(const Metadata &metadata, const std::string &where)
{
    const json &told = metadata.json();
    if (!told.is_object() || told.value("where", "") != where)
        return;
    const std::string what = told.at("throw");
    if (what == "int")
        throw 42;
    if (what == "complaint")
        throw Complaint{where};
    if (what == "domain_error")
        throw std::domain_error("from the " + where);
    throw diaspora::InvalidMetadata("from the " + where);
}

struct MoodyValidator : diaspora::ValidatorInterface {
    inline static std::atomic<std::size_t> segments_seen{0};

    void validate(const Metadata &metadata, const diaspora::DataView &data) const override
    {
        throw_as_told(metadata, "validator");
        if (text_of(data) == "unwanted")
            throw diaspora::Exception("unwanted data");
        segments_seen = data.segments().size();
    }
    Metadata metadata() const override { return Metadata{R"({"type": "moody"})"}; }
    static std::shared_ptr<diaspora::ValidatorInterface> create(const Metadata &metadata)
    {
        if (metadata.json().contains("broken"))
            throw std::out_of_range("it is broken");
        return std::make_shared<MoodyValidator>();
    }
};

struct MoodySerializer : diaspora::SerializerInterface {
    void serialize(diaspora::Archive &archive, const Metadata &metadata) const override
    {
        throw_as_told(metadata, "serializer");
        const std::string text = metadata.dump();
        archive.write(text.data(), text.size());
    }
    void deserialize(diaspora::Archive &archive, Metadata &metadata) const override
    {
        auto &buffer = dynamic_cast<diaspora::BufferWrapperInputArchive &>(archive).m_buffer;
        std::string text(buffer.size(), ' ');
        archive.read(text.data(), text.size());
        metadata = Metadata{text};
        throw_as_told(metadata, "reader");
    }
    Metadata metadata() const override { return Metadata{R"({"type": "moody"})"}; }
    static std::shared_ptr<diaspora::SerializerInterface> create(const Metadata &)
    {
        return std::make_shared<MoodySerializer>();
    }
};

/* Puts each event into the partition after that of the one before, and notes their order. */
struct MoodySelector : diaspora::PartitionSelectorInterface {
    inline static std::mutex mutex;
    inline static std::map<const MoodySelector *, std::vector<unsigned>> asked;

    void setPartitions(const std::vector<diaspora::PartitionInfo> &targets) override { count_ = targets.size(); }
    std::size_t selectPartitionFor(const Metadata &metadata, std::optional<std::size_t> requested) override
    {
        EXPECT(!is_being_asked_.exchange(true));
        std::this_thread::sleep_for(std::chrono::microseconds(20));
        is_being_asked_ = false;
        throw_as_told(metadata, "selector");
        if (metadata.json().contains("number")) {
            const std::lock_guard<std::mutex> lock(mutex);
            asked[this].push_back(metadata.json()["number"]);
        }
        return requested ? *requested : last_++ % count_;
    }
    Metadata metadata() const override { return Metadata{R"({"type": "moody"})"}; }
    static std::shared_ptr<diaspora::PartitionSelectorInterface> create(const Metadata &)
    {
        return std::make_shared<MoodySelector>();
    }

private:
    std::atomic<bool> is_being_asked_{false};
    std::size_t count_ = 0, last_ = 0;
};

DIASPORA_REGISTER_VALIDATOR(tests, moody, MoodyValidator);
DIASPORA_REGISTER_SERIALIZER(tests, moody, MoodySerializer);
DIASPORA_REGISTER_PARTITION_SELECTOR(tests, moody, MoodySelector);

diaspora::Validator moody_validator() { return diaspora::Validator{std::make_shared<MoodyValidator>()}; }
diaspora::PartitionSelector moody_selector() { return diaspora::PartitionSelector{std::make_shared<MoodySelector>()}; }
diaspora::Serializer moody_serializer() { return diaspora::Serializer{std::make_shared<MoodySerializer>()}; }

Metadata told(const std::string &where, const std::string &what)
{
    return Metadata{json{{"where", where}, {"throw", what}}};
}

template <class T, class Future> T thrown_from(const Future &future)
{
    return THROWN_BY(T, future.wait(patience_ms));
}

void what_a_component_throws_of_any_type_fails_that_push_as_it_is_and_flush_ends()
{
    const auto topic = new_topic(driver(), "moody", 2, moody_validator(), moody_selector(), moody_serializer());
    for (const auto &pool : all_pools(topic.driver())) {
        const auto producer = producer_on(pool, topic);
        for (const std::string where : {"validator", "serializer", "selector"}) {
            const auto push = [&](const std::string &what) { return producer->push(told(where, what), {}, {}); };
            const auto failed = push("int");
            EXPECT(thrown_from<int>(failed) == 42 && thrown_from<int>(failed) == 42 && failed.completed());
            EXPECT(thrown_from<Complaint>(push("complaint")).about == where);
            EXPECT(mentions(thrown_from<std::domain_error>(push("domain_error")), "from the " + where));
            EXPECT(mentions(thrown_from<diaspora::InvalidMetadata>(push("anything else")), "from the " + where));
            EXPECT(producer->push(number(1), {}, {}).wait(patience_ms));
            EXPECT(mentions(thrown_from<diaspora::Exception>(producer->flush()), "4 of the events"));
        }
        std::string unwanted = "unwanted", wanted = "wanted";
        EXPECT(mentions(thrown_from<diaspora::Exception>(producer->push(number(1), view(unwanted), {})), "unwanted data"));
        EXPECT(producer->push(number(1), view(wanted), {}).wait(patience_ms));
    }
}

void a_selector_is_asked_by_one_at_a_time_in_the_order_of_the_pushes_and_chooses_the_partition()
{
    constexpr unsigned count = 600;
    const auto topic = new_topic(driver(), "selector", 3, diaspora::Validator{}, moody_selector());
    unsigned pushed = 0;
    for (const auto &pool : all_pools(topic.driver())) {
        {
            const std::lock_guard<std::mutex> lock(MoodySelector::mutex);
            MoodySelector::asked.clear();
        }
        const auto producer = producer_on(pool, topic);
        for (unsigned value = 0; value < count; value++)
            producer->push(number(value), {}, {});
        EXPECT(producer->flush().wait(patience_ms));
        const std::lock_guard<std::mutex> lock(MoodySelector::mutex);
        EXPECT(MoodySelector::asked.size() == 1 && MoodySelector::asked.begin()->second == from_to(0, count));
        pushed += count;
    }
    /* In each partition every third one of each producer, in order. */
    const auto consumer = topic.consumer(unique("reader"));
    std::map<unsigned, std::vector<unsigned>> partitions;
    for (unsigned index = 0; index < pushed; index++) {
        const auto event = next(consumer);
        partitions[event.partition().json().at("partition_id").get<unsigned>()].push_back(number_of(event));
    }
    for (const auto &[partition, numbers] : partitions)
        for (std::size_t index = 0; index < numbers.size(); index++)
            EXPECT(numbers[index] == index % (count / 3) * 3 + partition);
}

void a_validator_sees_the_data_as_it_is_pushed_or_a_copy_in_one_piece()
{
    const auto topic = new_topic(driver(), "seen", 1, moody_validator());
    std::string first = "in ", second = "two";
    for (const auto &pool : all_pools(topic.driver())) {
        const auto producer = producer_on(pool, topic);
        const diaspora::DataView in_two{{{first.data(), first.size()}, {second.data(), second.size()}}};
        EXPECT(producer->push(number(0), in_two, {}).wait(patience_ms));
        EXPECT(MoodyValidator::segments_seen == (pool ? 1 : 2));
        EXPECT(producer->push(number(0), {}, {}).wait(patience_ms) && MoodyValidator::segments_seen <= (pool ? 1 : 0));
    }
}

void a_partition_that_is_not_there_fails_that_push_alone()
{
    const auto topic = new_topic(driver(), "wrong", 2, diaspora::Validator{}, moody_selector());
    const auto producer = topic.producer();
    for (const std::size_t wrong : {std::size_t{2}, std::numeric_limits<std::size_t>::max()})
        EXPECT(mentions(thrown_from<diaspora::Exception>(producer.push(number(0), {}, wrong)), "partition"));
    EXPECT(producer.push(number(1), {}, 1).wait(patience_ms) == 0U);
}

void metadata_that_cannot_be_read_fails_that_pull_as_it_is_and_the_next_reads_on()
{
    const auto topic = new_topic(driver(), "unreadable", 1, diaspora::Validator{}, diaspora::PartitionSelector{},
                                 moody_serializer());
    const auto producer = topic.producer();
    for (const auto &metadata : {told("reader", "int"), told("reader", "domain_error"), number(3)})
        EXPECT(producer.push(metadata).wait(patience_ms));
    const auto consumer = topic.consumer(unique("reader"));
    const auto failed = consumer.pull();
    EXPECT(thrown_from<int>(failed) == 42 && thrown_from<int>(failed) == 42);
    EXPECT(mentions(thrown_from<std::domain_error>(consumer.pull()), "from the reader"));
    EXPECT(number_of(next(consumer)) == 3);
}

void schemas_of_the_library_refuse_what_they_should_and_are_there_when_the_topic_is_opened_again()
{
    const Metadata schema{R"({"type": "schema", "schema": {"type": "object", "properties": {"number": {"type": "integer"}},
                              "required": ["number"]}})"};
    const auto own = driver();
    const auto topic = new_topic(own, "schema", 1, diaspora::Validator::FromMetadata(schema),
                                 diaspora::PartitionSelector{}, diaspora::Serializer::FromMetadata(schema));
    const auto producer = driver().openTopic(topic.name()).producer();
    EXPECT(producer.push(number(1)).wait(patience_ms));
    thrown_from<diaspora::Exception>(producer.push(Metadata{R"({"number": "one"})"}));
    EXPECT(number_of(next(topic.consumer(unique("reader")))) == 1);
    EXPECT(topic.validator().metadata().json().at("type") == "schema");
    const Metadata unopenable{R"({"type": "schema", "schema": {"type": "string", "format": "date"}})"};
    struct Raw : diaspora::ValidatorInterface {
        Metadata described;
        explicit Raw(Metadata metadata) : described(std::move(metadata)) {}
        void validate(const Metadata &, const diaspora::DataView &) const override {}
        Metadata metadata() const override { return described; }
    };
    EXPECT(mentions(THROWN_BY(diaspora::Exception, new_topic(own, "format", 1, diaspora::Validator{std::make_shared<Raw>(unopenable)})), "format"));
    EXPECT(!own.topicExists(prefix + "format"));
}

void a_component_that_cannot_be_made_is_an_error_that_names_it_and_no_default_takes_its_place()
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

void components_of_another_library_are_loaded_by_their_type_also_when_the_topic_is_opened_again()
{
    /* Built beside this program. */
    const auto path = std::filesystem::read_symlink("/proc/self/exe").parent_path() / "libpicky.so";
    const json description = {{"type", "picky:" + path.string()}};
    const auto name = prefix + "loaded";
    driver().createTopic(name, topic_options(1), diaspora::Validator::FromMetadata(Metadata{description}));
    const auto topic = driver().openTopic(name);
    EXPECT(topic.validator().metadata().json() == description);
    const auto producer = topic.producer();
    EXPECT(mentions(thrown_from<diaspora::Exception>(producer.push(Metadata{"\"bad\""})), "library of its own"));
    EXPECT(producer.push(Metadata{"\"good\""}).wait(patience_ms) == 0U);
}

void components_may_be_null_or_say_no_type()
{
    auto own = driver();
    const std::string name = prefix + "null";
    own.as<diaspora::DriverInterface>().createTopic(name, topic_options(1), nullptr, nullptr, nullptr);
    const auto topic = own.openTopic(name);
    EXPECT(topic.validator().metadata().json() == json{{"type", "default"}});
    EXPECT(topic.producer().push(Metadata{"\"bare\""}).wait(patience_ms) == 0U);
    EXPECT(next(topic.consumer(unique("reader"))).metadata().string() == "bare");
}

constexpr promises::Promise all[] = {
    PROMISE(what_a_component_throws_of_any_type_fails_that_push_as_it_is_and_flush_ends),
    PROMISE(a_selector_is_asked_by_one_at_a_time_in_the_order_of_the_pushes_and_chooses_the_partition),
    PROMISE(a_validator_sees_the_data_as_it_is_pushed_or_a_copy_in_one_piece),
    PROMISE(a_partition_that_is_not_there_fails_that_push_alone),
    PROMISE(metadata_that_cannot_be_read_fails_that_pull_as_it_is_and_the_next_reads_on),
    PROMISE(schemas_of_the_library_refuse_what_they_should_and_are_there_when_the_topic_is_opened_again),
    PROMISE(a_component_that_cannot_be_made_is_an_error_that_names_it_and_no_default_takes_its_place),
    PROMISE(components_of_another_library_are_loaded_by_their_type_also_when_the_topic_is_opened_again),
    PROMISE(components_may_be_null_or_say_no_type),
};

} // namespace

int main(int argc, char **argv) { return support::run(argc, argv, all); }
