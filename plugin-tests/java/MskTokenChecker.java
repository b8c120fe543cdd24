import java.net.URI;
import java.net.URLDecoder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.security.MessageDigest;
import java.time.Instant;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.util.Base64;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;
import javax.security.auth.callback.Callback;
import javax.security.auth.callback.UnsupportedCallbackException;
import javax.security.auth.login.AppConfigurationEntry;
import org.apache.kafka.common.security.auth.AuthenticateCallbackHandler;
import org.apache.kafka.common.security.oauthbearer.OAuthBearerToken;
import org.apache.kafka.common.security.oauthbearer.OAuthBearerValidatorCallback;

/**
 * What an MSK broker does with a token, as far as it can be done without AWS: the signature is made again with the
 * test's secret. Options of the login module: region, accessKey, secretKey, sessionToken (none: there must be none),
 * log, a file that gets a line for each token, and knownOnce (none: at once), a file that is there once the key is known.
 */
public final class MskTokenChecker implements AuthenticateCallbackHandler {
    private static final DateTimeFormatter DATE =
            DateTimeFormatter.ofPattern("yyyyMMdd'T'HHmmss'Z'").withZone(ZoneOffset.UTC);

    private Map<String, ?> options;

    @Override
    public void configure(Map<String, ?> configs, String mechanism, List<AppConfigurationEntry> entries) {
        options = entries.get(0).getOptions();
    }

    @Override
    public void handle(Callback[] callbacks) throws UnsupportedCallbackException {
        for (Callback callback : callbacks) {
            if (!(callback instanceof OAuthBearerValidatorCallback asked)) {
                throw new UnsupportedCallbackException(callback);
            }
            try {
                OAuthBearerToken token = check(asked.tokenValue());
                asked.token(token);
                log("accepted " + token.startTimeMs());
            } catch (Exception refusal) {
                asked.error("invalid_token", null, null);
                log("refused " + refusal.getMessage());
            }
        }
    }

    @Override
    public void close() {}

    private OAuthBearerToken check(String value) throws Exception {
        String knownOnce = option("knownOnce");
        require(knownOnce == null || Files.exists(Path.of(knownOnce)), "the key is not known yet");
        String url = new String(Base64.getUrlDecoder().decode(value), StandardCharsets.UTF_8);
        require(!value.contains("="), "the token has padding");
        URI request = URI.create(url);
        Map<String, String> written = new TreeMap<>();
        String last = null;
        for (String pair : request.getRawQuery().split("&")) {
            String[] parts = pair.split("=", 2);
            require(written.put(parts[0], parts[1]) == null, "a parameter is given twice: " + parts[0]);
            last = parts[0];
        }
        require("User-Agent".equals(last), "User-Agent is not appended after the signature");
        written.remove("User-Agent");
        String signature = written.remove("X-Amz-Signature");
        String host = "kafka." + option("region") + ".amazonaws.com";
        require("https".equals(request.getScheme()) && host.equals(request.getHost()), "it is for " + request.getHost());
        require("/".equals(request.getRawPath()), "the path is " + request.getRawPath());
        require("kafka-cluster:Connect".equals(decoded(written, "Action")), "the action is another");
        require("AWS4-HMAC-SHA256".equals(decoded(written, "X-Amz-Algorithm")), "the algorithm is another");
        require("host".equals(decoded(written, "X-Amz-SignedHeaders")), "other headers are signed");
        String session = (String) options.get("sessionToken");
        require(
                session == null ? !written.containsKey("X-Amz-Security-Token")
                        : session.equals(decoded(written, "X-Amz-Security-Token")),
                "the session token is another");
        Set<String> known = Set.of("Action", "X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires",
                "X-Amz-SignedHeaders", "X-Amz-Security-Token");
        require(known.containsAll(written.keySet()), "there are other parameters");

        String date = decoded(written, "X-Amz-Date");
        long start = Instant.from(DATE.parse(date)).toEpochMilli();
        long life = 1000 * Long.parseLong(decoded(written, "X-Amz-Expires"));
        require(life > 0 && life <= 900_000, "it lives for " + life + " ms");
        long now = System.currentTimeMillis();
        require(start <= now + 1000, "it is signed in the future");
        require(now < start + life, "it has expired " + (now - start - life) + " ms ago");

        String day = date.substring(0, 8);
        String scope = day + "/" + option("region") + "/kafka-cluster/aws4_request";
        require((option("accessKey") + "/" + scope).equals(decoded(written, "X-Amz-Credential")), "another key signed it");
        StringBuilder query = new StringBuilder();
        written.forEach((name, raw) -> query.append(query.isEmpty() ? "" : "&").append(name).append("=").append(raw));
        String canonical = "GET\n/\n" + query + "\nhost:" + host + "\n\nhost\n" + sha256("");
        String toSign = "AWS4-HMAC-SHA256\n" + date + "\n" + scope + "\n" + sha256(canonical);
        byte[] key = ("AWS4" + option("secretKey")).getBytes(StandardCharsets.UTF_8);
        for (String part : scope.split("/")) {
            key = hmac(key, part);
        }
        require(HexFormat.of().formatHex(hmac(key, toSign)).equals(signature), "the signature is wrong");
        return new Accepted(value, start, start + life, option("accessKey"));
    }

    private record Accepted(String value, Long startTimeMs, long lifetimeMs, String principalName)
            implements OAuthBearerToken {
        @Override
        public Set<String> scope() {
            return Set.of();
        }
    }

    private String option(String name) {
        return (String) options.get(name);
    }

    private synchronized void log(String line) {
        try {
            Files.writeString(Path.of(option("log")), line + "\n", StandardOpenOption.CREATE, StandardOpenOption.APPEND);
        } catch (java.io.IOException failure) {
            throw new java.io.UncheckedIOException(failure);
        }
    }

    private static String decoded(Map<String, String> written, String name) {
        require(written.containsKey(name), name + " is missing");
        return URLDecoder.decode(written.get(name).replace("+", "%2B"), StandardCharsets.UTF_8);
    }

    private static byte[] hmac(byte[] key, String text) throws Exception {
        Mac mac = Mac.getInstance("HmacSHA256");
        mac.init(new SecretKeySpec(key, "HmacSHA256"));
        return mac.doFinal(text.getBytes(StandardCharsets.UTF_8));
    }

    private static String sha256(String text) throws Exception {
        byte[] hash = MessageDigest.getInstance("SHA-256").digest(text.getBytes(StandardCharsets.UTF_8));
        return HexFormat.of().formatHex(hash);
    }

    private static void require(boolean holds, String otherwise) {
        if (!holds) {
            throw new IllegalArgumentException(otherwise);
        }
    }
}
