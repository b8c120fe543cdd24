import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.Properties;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Writes records in the format of Octopus in transactions: {@code Transactions BOOTSTRAP TOPIC +3
 * -2 ...} commits three records and aborts two.
 */
public class Transactions {
    public static void main(String[] args) throws Exception {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", args[0]);
        settings.put("transactional.id", args[1]);
        int number = 0;
        try (KafkaProducer<byte[], byte[]> producer =
                new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer())) {
            producer.initTransactions();
            for (int index = 2; index < args.length; index++) {
                int count = Integer.parseInt(args[index]);
                producer.beginTransaction();
                for (int record = 0; record < Math.abs(count); record++) {
                    producer.send(new ProducerRecord<>(args[1], 0, null, record(number++))).get();
                }
                if (count > 0) {
                    producer.commitTransaction();
                } else {
                    producer.abortTransaction();
                }
            }
        }
    }

    /** Returns a record with empty metadata and the number as its data. */
    private static byte[] record(int number) {
        byte[] metadata = "{}".getBytes(StandardCharsets.UTF_8);
        byte[] data = Integer.toString(number).getBytes(StandardCharsets.UTF_8);
        ByteBuffer record = ByteBuffer.allocate(24 + metadata.length + data.length).order(ByteOrder.LITTLE_ENDIAN);
        record.putLong(8 + metadata.length).putLong(data.length).putLong(metadata.length).put(metadata).put(data);
        return record.array();
    }
}
