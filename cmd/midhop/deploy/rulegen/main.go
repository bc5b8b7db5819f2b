// Command rulegen writes the chart's PrometheusRule from monitoring/alerts.yaml, which is the only source of the rules.
package main

import (
	"fmt"
	"os"
	"strings"
)

const head = `{{- /* Made of monitoring/alerts.yaml by go generate: change it there. */}}
{{- if .Values.monitoring.prometheusRule }}
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: midhop
  namespace: {{ .Release.Namespace }}
  labels:
    app.kubernetes.io/name: midhop
spec:
`

func main() {
	text, err := os.ReadFile("monitoring/alerts.yaml")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	var b strings.Builder
	b.WriteString(head)
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		// What Prometheus fills in is not Helm's.
		line = strings.NewReplacer("{{", "{{`{{", "}}", "}}`}}").Replace(line)
		if strings.TrimSpace(line) != "" {
			line = "  " + line
		}
		b.WriteString(line)
	}
	b.WriteString("{{- end }}\n")
	if err := os.WriteFile("chart/templates/prometheusrule.yaml", []byte(b.String()), 0o644); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
