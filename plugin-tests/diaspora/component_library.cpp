/* A library of components, which the C++ library loads by their type: `picky:/path/libpicky.so`. */

#include <diaspora/Exception.hpp>
#include <diaspora/Validator.hpp>

namespace {

/* Takes no event whose metadata says "bad". Knows the type that it was made by. */
class Picky : public diaspora::ValidatorInterface {
public:
    explicit Picky(diaspora::Metadata metadata) : metadata_(std::move(metadata)) {}

    void validate(const diaspora::Metadata &metadata, const diaspora::DataView &) const override
    {
        if (metadata.json() == "bad")
            throw diaspora::Exception("picky from a library of its own");
    }

    diaspora::Metadata metadata() const override { return metadata_; }

    static std::shared_ptr<diaspora::ValidatorInterface> create(const diaspora::Metadata &metadata)
    {
        return std::make_shared<Picky>(metadata);
    }

private:
    diaspora::Metadata metadata_;
};

DIASPORA_REGISTER_VALIDATOR(library, picky, Picky);

} // namespace
