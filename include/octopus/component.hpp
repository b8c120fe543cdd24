/* Validators, selectors and serializers of yours, for topics that name their type. A part of octopus.hpp. */

#ifndef OCTOPUS_COMPONENT_HPP
#define OCTOPUS_COMPONENT_HPP

#include "detail.hpp"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

namespace octopus {

/* Where a function of yours puts the bytes that it makes. */
class Output {
public:
    void append(std::string_view bytes) const { reply_->append(reply_->token, detail::bytes(bytes)); }

private:
    friend class Preparation;
    friend class Serializer;
    explicit Output(const octopus_component_reply *reply) : reply_(reply) {}
    const octopus_component_reply *reply_;
};

/* Says whether an event may be pushed. Called from any thread, several at a time. */
class Validator {
public:
    virtual ~Validator() = default;
    /* Throws to refuse. */
    virtual void validate(std::string_view metadata, const std::vector<std::string_view> &data) const = 0;
};

/* Chooses partitions for one producer: one event at a time, from any thread. */
class Selector {
public:
    virtual ~Selector() = default;
    virtual std::uint32_t select(std::string_view metadata, std::optional<std::uint64_t> requested,
                                 std::uint32_t partitions) = 0;
};

/* Writes and reads metadata. Called from any thread, several at a time. */
class Serializer {
public:
    virtual ~Serializer() = default;
    virtual void serialize(std::string_view json, const Output &bytes) const = 0;
    virtual void deserialize(std::string_view bytes, const Output &json) const = 0;

private:
    friend class Driver;
    static Output output(const octopus_component_reply *reply) { return Output(reply); }
};

/* Makes a component from its JSON; throws if it can't be made. */
template <class Component> using Make = std::function<std::unique_ptr<Component>(std::string_view json)>;

} // namespace octopus

#endif /* OCTOPUS_COMPONENT_HPP */
