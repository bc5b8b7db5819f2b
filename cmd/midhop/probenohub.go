package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/midhop/midhop/tracer/kubeaccess"
)

// noHubNodes is how many nodes the message names.
const noHubNodes = 5

// noHubMessage is how a command ends that looked for a hub in a cluster and found none: with the line that looks at a node
// all the same, by the name of a real one. why is what was looked for, nil for the usual words. Its exit code is 3.
func noHubMessage(ctx context.Context, access *kubeaccess.Access, why error) error {
	flags := ""
	if access.Context != "" {
		flags = " --context " + access.Context
	}
	node, others := "NODE", ""
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if api, err := kubeaccess.NewDebugger(access); err == nil {
		if names, err := api.NodeNames(ctx, noHubNodes); err == nil && len(names) > 0 {
			node = names[0]
			if len(names) > 1 {
				others = " (or " + strings.Join(names[1:], ", ") + ")"
			}
		}
	}
	if why == nil {
		why = fmt.Errorf("no hub of midhop in the cluster %s", access.Config.Host)
	}
	return blindError{
		cause: why, effect: "there is nothing to look at",
		remedy: fmt.Sprintf("look at a node with nothing installed: kubectl midhop probe%s %s%s; or install one: midhop deploy | kubectl apply -f -", flags, node, others),
	}
}
