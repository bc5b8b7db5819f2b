package kubeaccess

import (
	"encoding/json"
	"fmt"

	"sigs.k8s.io/yaml"
)

// PodManifest returns the pod for a node as kubectl would apply it, in YAML. keeper is the UID of the keeper that owns it, empty
// where there is none.
func (r *DebugRun) PodManifest(node string, keeper string) (string, error) {
	return manifest(r.Pod(node, keeper))
}

// KeeperManifest returns the run's keeper in YAML.
func (r *DebugRun) KeeperManifest() (string, error) { return manifest(r.Keeper()) }

// manifest writes an object without what only the API server fills in.
func manifest(o any) (string, error) {
	raw, err := json.Marshal(o)
	if err != nil {
		return "", err
	}
	var fields map[string]any
	if err := json.Unmarshal(raw, &fields); err != nil {
		return "", err
	}
	delete(fields, "status")
	text, err := yaml.Marshal(fields)
	if err != nil {
		return "", fmt.Errorf("write a manifest: %w", err)
	}
	return string(text), nil
}
