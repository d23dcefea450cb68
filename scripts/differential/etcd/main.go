// Holds a cluster of etcd's raft nodes (release 3.4, as Debian packages it) and does to them what
// it is told on standard input: one JSON object a line in, one JSON object a line out. Nothing here
// decides anything; steps, the network and the comparison are lockstep.ts's.
//
// Built against the sources of golang-etcd-server-dev, without modules:
//
//	GO111MODULE=off GOPATH=/usr/share/gocode go build
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
)

// Request is one step. Op says which; the other fields are those it needs.
type Request struct {
	Op string `json:"op"`
	// The cluster to begin, for "begin".
	Options *Options `json:"options,omitempty"`

	Node       uint64   `json:"node,omitempty"`
	Peer       uint64   `json:"peer,omitempty"`
	Index      uint64   `json:"index,omitempty"`
	Ok         bool     `json:"ok,omitempty"`
	Text       string   `json:"text,omitempty"`
	Changes    string   `json:"changes,omitempty"`
	Transition string   `json:"transition,omitempty"`
	Message    *Message `json:"message,omitempty"`
}

// Response is what a step led to: the node afterwards, and what it sent meanwhile.
type Response struct {
	// The raft library panicked; the cluster is of no use from here on.
	Panic string `json:"panic,omitempty"`
	// The step was refused: a proposal dropped, an answer from a server that is none of the peers.
	Refused  string      `json:"refused,omitempty"`
	Messages []Message   `json:"messages"`
	Reads    []ReadState `json:"reads"`
	Status   *Status     `json:"status,omitempty"`
}

func main() {
	input := bufio.NewReaderSize(os.Stdin, 1<<20)
	output := bufio.NewWriter(os.Stdout)
	encoder := json.NewEncoder(output)
	var cluster *Cluster
	for {
		line, err := input.ReadBytes('\n')
		if err != nil {
			return
		}
		var request Request
		if err := json.Unmarshal(line, &request); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		var response Response
		if request.Op == "begin" {
			cluster = NewCluster(*request.Options)
		} else {
			response = run(cluster, request)
		}
		if err := encoder.Encode(response); err != nil {
			return
		}
		output.Flush()
	}
}

func run(cluster *Cluster, request Request) (response Response) {
	defer func() {
		if cause := recover(); cause != nil {
			response = Response{Panic: fmt.Sprint(cause)}
		}
	}()
	return cluster.Run(request)
}
