import java.time.Duration;
import java.util.Map;
import java.util.TreeMap;
import java.util.TreeSet;
import org.apache.kafka.connect.mirror.MirrorClient;
import org.apache.kafka.connect.mirror.RemoteClusterUtils;

/** Says what MirrorMaker 2's own classes see on a cluster: arguments are its address, an upstream alias and a group. */
public final class Mm2Classes {
    public static void main(String[] args) throws Exception {
        Map<String, Object> properties = Map.of("bootstrap.servers", args[0]);
        var offsets = new TreeMap<String, String>();
        RemoteClusterUtils.translateOffsets(properties, args[1], args[2], Duration.ofSeconds(30))
            .forEach((partition, offset) -> offsets.put(partition.toString(), offset.offset() + " " + offset.metadata()));
        offsets.forEach((partition, offset) -> System.out.println("offset " + partition + " " + offset));
        System.out.println("upstream " + new TreeSet<>(RemoteClusterUtils.upstreamClusters(properties)));
        System.out.println("hops " + RemoteClusterUtils.replicationHops(properties, args[1]));
        System.out.println("heartbeats " + new TreeSet<>(RemoteClusterUtils.heartbeatTopics(properties)));
        try (MirrorClient client = new MirrorClient(properties)) {
            System.out.println("checkpoints " + new TreeSet<>(client.checkpointTopics()));
        }
    }
}
