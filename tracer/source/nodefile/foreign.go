package nodefile

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// remedied is an error with the command that gives the right thing.
type remedied struct {
	error
	remedy string
}

func (e remedied) Unwrap() error { return e.error }

// theCommand gives what is wanted.
const theCommand = "kubectl get nodes -o json > nodes.json"

var (
	tableHead = regexp.MustCompile(`^NAME +STATUS +ROLES +AGE +VERSION`)
	nameList  = regexp.MustCompile(`^node/[a-z0-9.-]+\r?\n`)
)

// foreign recognises text that holds no nodes file, by how it begins; nil where it may be one.
func foreign(head []byte) error {
	text := string(bytes.TrimLeft(head, " \t\r\n"))
	starts := func(list ...string) bool {
		for _, s := range list {
			if strings.HasPrefix(text, s) {
				return true
			}
		}
		return false
	}
	line, _, _ := strings.Cut(text, "\n")
	line = strings.TrimRight(line, " \r")
	switch {
	case tableHead.MatchString(text):
		return remedied{errors.New("is the table that kubectl get nodes prints for people: it has no ranges, and addresses only with -o wide"), theCommand}
	case starts("NAME ", "NAME\n", "NAME\r\n", "NAMESPACE "):
		return remedied{fmt.Errorf("is a table for people (%.60s)", line), theCommand}
	case starts("Name: ") && strings.Contains(text, "\nLabels:"):
		return remedied{errors.New("is what kubectl describe prints for people"), theCommand}
	case nameList.MatchString(text):
		return remedied{errors.New("holds the names of nodes only (kubectl get -o name)"), theCommand}
	case starts("Error from server", "The connection to the server", "Unable to connect to the server", "error: ", "error:\n"):
		return remedied{fmt.Errorf("holds an error of kubectl's: %.200s", line), "see why kubectl fails, then: " + theCommand}
	case starts("No resources found"):
		return remedied{errors.New("says that no resources were found"), "see which cluster is meant (kubectl config current-context), then: " + theCommand}
	case starts("<!DOCTYPE", "<!doctype", "<html", "<HTML", "<?xml"):
		return remedied{errors.New("is a web page, perhaps of a proxy or a login"), theCommand}
	case starts(`{"v":1,"type":`, `{"v": 1, "type":`):
		return remedied{errors.New("is a recording of midhop's"), "midhop replay FILE; for its names: " + theCommand}
	case bytes.IndexByte(head, 0) >= 0:
		return remedied{errors.New("is no text"), theCommand}
	}
	return nil
}

// wrongKind says what an object is that holds no nodes, with the command that gives some.
func wrongKind(o *object) error {
	switch {
	case o.Kind == "Status":
		what := o.Message
		if what == "" {
			what = o.Reason
		}
		err := fmt.Errorf("holds the API's refusal: %d %.300s", o.Code, what)
		if o.Code == 403 {
			return remedied{err, "somebody who may list nodes: " + theCommand + " (who may: kubectl auth can-i list nodes)"}
		}
		return remedied{err, theCommand}
	case strings.HasPrefix(o.Kind, "CiliumNode"):
		return remedied{fmt.Errorf("%.40q names Cilium's addresses only, and no node's own", o.Kind), "kubectl get nodes,ciliumnodes -o json > nodes.json"}
	case strings.HasPrefix(o.Kind, "BlockAffinity"):
		return remedied{fmt.Errorf("%.40q names Calico's blocks only, and no node's own addresses", o.Kind), "kubectl get nodes,blockaffinities.crd.projectcalico.org -o json > nodes.json"}
	case o.Kind == "Config":
		return remedied{errors.New("is a kubeconfig"), "--kubeconfig FILE, which reads the nodes itself"}
	case o.Kind == "":
		return remedied{errors.New("an object without kind, and without what a node has; " + wanted), theCommand}
	}
	return remedied{fmt.Errorf("%.40q holds no nodes; %s", o.Kind, wanted), theCommand}
}
