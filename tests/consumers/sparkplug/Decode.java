import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.HexFormat;
import org.eclipse.tahu.message.SparkplugBPayloadDecoder;
import org.eclipse.tahu.message.model.Metric;
import org.eclipse.tahu.message.model.PropertySet;
import org.eclipse.tahu.message.model.SparkplugBPayload;
import org.eclipse.tahu.model.MetricDataTypeMap;

/**
 * Payloads as Eclipse Tahu's library understands them: one in hexadecimal a line of stdin, births
 * before data; a line for each metric, and an empty one behind each payload, on stdout.
 */
public class Decode {
    private static String properties(PropertySet properties) {
        StringBuilder text = new StringBuilder();
        if (properties != null)
            for (String name : properties.getNames())
                text.append(name).append('=').append(properties.getPropertyValue(name).getValue())
                    .append(' ');
        return text.toString();
    }

    public static void main(String[] arguments) throws Exception {
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        SparkplugBPayloadDecoder decoder = new SparkplugBPayloadDecoder();
        MetricDataTypeMap types = new MetricDataTypeMap();
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            SparkplugBPayload payload =
                decoder.buildFromByteArray(HexFormat.of().parseHex(line), types);
            System.out.println("seq=" + payload.getSeq() + " time=" + payload.getTimestamp().getTime());
            for (Metric metric : payload.getMetrics()) {
                if (metric.hasName())
                    types.addMetricDataType(metric.getName(), metric.getDataType());
                if (metric.hasName() && metric.hasAlias())
                    types.addMetricDataType(metric.getAlias(), metric.getDataType());
                System.out.println(String.join("\t", metric.hasName() ? metric.getName() : "",
                    metric.hasAlias() ? metric.getAlias().toString() : "",
                    metric.getDataType().toString(), String.valueOf(metric.getValue()),
                    Long.toString(metric.getTimestamp().getTime()),
                    String.valueOf(metric.isHistorical()), String.valueOf(metric.isNull()),
                    properties(metric.getProperties())));
            }
            System.out.println();
        }
    }
}
