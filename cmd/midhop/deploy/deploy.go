// Package deploy is midhop's Helm chart, and the plain manifests that it gives. The chart is the only source: its templates
// keep to what Go's own template package knows, so that midhop renders them without Helm, and a test compares the two.
package deploy

import (
	"embed"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"text/template"

	"sigs.k8s.io/yaml"
)

//go:generate go run ./rulegen

//go:embed chart
var chart embed.FS

//go:embed monitoring/alerts.yaml monitoring/dashboard.json
var monitoring embed.FS

// Options are what a user may change without writing values.
type Options struct {
	Namespace string
	Values    map[string]any // over the chart's own, see [Defaults]
}

// Defaults returns the chart's values.
func Defaults() (map[string]any, error) {
	text, err := chart.ReadFile("chart/values.yaml")
	if err != nil {
		return nil, err
	}
	var values map[string]any
	if err := yaml.Unmarshal(text, &values); err != nil {
		return nil, fmt.Errorf("values.yaml: %w", err)
	}
	return values, nil
}

// Set changes one value by its path, such as hub.storage; it must be there.
func Set(values map[string]any, name, value string) error {
	at := values
	parts := strings.Split(name, ".")
	for _, p := range parts[:len(parts)-1] {
		next, ok := at[p].(map[string]any)
		if !ok {
			return fmt.Errorf("no value %s", name)
		}
		at = next
	}
	last := parts[len(parts)-1]
	switch at[last].(type) {
	case string:
		at[last] = value
	case bool:
		if value != "true" && value != "false" {
			return fmt.Errorf("%s: true or false", name)
		}
		at[last] = value == "true"
	default:
		return fmt.Errorf("no value %s", name)
	}
	return nil
}

// Write writes the manifests.
func Write(w io.Writer, o Options) error {
	files, err := fs.Glob(chart, "chart/templates/*.yaml")
	if err != nil {
		return err
	}
	data := map[string]any{"Values": o.Values, "Release": map[string]any{"Namespace": o.Namespace, "Name": "midhop"}}
	for _, name := range files { // sorted
		text, err := chart.ReadFile(name)
		if err != nil {
			return err
		}
		t, err := template.New(path.Base(name)).Option("missingkey=error").Parse(string(text))
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		var b strings.Builder
		if err := t.Execute(&b, data); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if strings.TrimSpace(b.String()) == "" {
			continue
		}
		if _, err := fmt.Fprintf(w, "---\n%s\n", strings.TrimSpace(b.String())); err != nil {
			return err
		}
	}
	return nil
}

// Monitoring is the alert rules for Prometheus and the dashboard for Grafana.
func Monitoring() fs.FS {
	sub, err := fs.Sub(monitoring, "monitoring")
	if err != nil {
		panic(err) // the directory is compiled in
	}
	return sub
}

// Chart is the chart's own files, for `helm install`.
func Chart() fs.FS {
	sub, err := fs.Sub(chart, "chart")
	if err != nil {
		panic(err) // the directory is compiled in
	}
	return sub
}
