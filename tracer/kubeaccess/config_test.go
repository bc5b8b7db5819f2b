package kubeaccess

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestOpenSaysWhy: a kubeconfig that was asked for and does not serve is an error that says what helps.
func TestOpenSaysWhy(t *testing.T) {
	const user = `
apiVersion: v1
kind: Config
current-context: a
clusters: [{name: c, cluster: {server: "https://127.0.0.1:1"}}]
contexts: [{name: a, context: {cluster: c, user: u}}]
users: [{name: u, user: {auth-provider: {name: NAME, config: {}}}}]
`
	for _, c := range []struct{ name, text, context, want, remedy string }{
		{"empty", "apiVersion: v1\nkind: Config\n", "", "names no cluster", "kubectl config view"},
		{"nothing at all", "", "", "names no cluster", "kubectl config view"},
		{"no such context", user, "b", `context "b" does not exist; there are: a`, "kubectl config get-contexts"},
		{"gcp", strings.Replace(user, "NAME", "gcp", 1), "", `signs in by the auth-provider "gcp"`, "gke-gcloud-auth-plugin"},
		{"azure", strings.Replace(user, "NAME", "azure", 1), "", `"azure"`, "kubelogin convert-kubeconfig"},
		{"oidc", strings.Replace(user, "NAME", "oidc", 1), "", `"oidc"`, "exec plugin for OIDC"},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "config")
			if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := Open(Options{Kubeconfig: file, Context: c.context})
			var config *ConfigError
			if !errors.As(err, &config) || !strings.Contains(err.Error(), c.want) || !strings.Contains(config.Remedy(), c.remedy) {
				t.Errorf("got %v, want %q and the remedy %q", err, c.want, c.remedy)
			}
		})
	}
}
