package main

import (
	"fmt"
	"sort"

	"go.etcd.io/etcd/raft"
	"go.etcd.io/etcd/raft/quorum"
	pb "go.etcd.io/etcd/raft/raftpb"
)

// Message is a message of either implementation: see message.ts, which has the same fields.
type Message struct {
	Kind string `json:"kind"`
	From uint64 `json:"from"`
	To   uint64 `json:"to"`
	Term uint64 `json:"term"`

	IsPreVote    bool     `json:"isPreVote,omitempty"`
	IsTransfer   bool     `json:"isTransfer,omitempty"`
	Granted      bool     `json:"granted,omitempty"`
	Index        uint64   `json:"index,omitempty"`
	LogTerm      uint64   `json:"logTerm,omitempty"`
	EntryTerms   []uint64 `json:"entryTerms,omitempty"`
	Commit       uint64   `json:"commit,omitempty"`
	Refused      bool     `json:"refused,omitempty"`
	Hint         uint64   `json:"hint,omitempty"`
	Context      string   `json:"context,omitempty"`
	AppliedIndex uint64   `json:"appliedIndex,omitempty"`
}

type ReadState struct {
	Id    string `json:"id"`
	Index uint64 `json:"index"`
}

// What a candidate says that was told to stand by its leader.
const transfer = "CampaignTransfer"

var kinds = map[pb.MessageType]string{
	pb.MsgVote:          "requestVote",
	pb.MsgPreVote:       "requestVote",
	pb.MsgVoteResp:      "requestVoteResponse",
	pb.MsgPreVoteResp:   "requestVoteResponse",
	pb.MsgApp:           "appendEntries",
	pb.MsgAppResp:       "appendEntriesResponse",
	pb.MsgHeartbeat:     "heartbeat",
	pb.MsgHeartbeatResp: "heartbeatResponse",
	pb.MsgSnap:          "installSnapshot",
	pb.MsgTimeoutNow:    "timeoutNow",
	pb.MsgReadIndex:     "readIndex",
	pb.MsgReadIndexResp: "readIndexResponse",
}

func (node *Node) encode(m pb.Message) Message {
	kind, ok := kinds[m.Type]
	if !ok {
		panic(fmt.Sprint("no word for ", m.Type))
	}
	message := Message{
		Kind: kind, From: m.From, To: m.To, Term: m.Term,
		IsPreVote:    m.Type == pb.MsgPreVote || m.Type == pb.MsgPreVoteResp,
		Index:        m.Index,
		LogTerm:      m.LogTerm,
		Commit:       m.Commit,
		Refused:      m.Reject,
		Hint:         m.RejectHint,
		Context:      string(m.Context),
		AppliedIndex: node.storage.applied,
	}
	switch m.Type {
	case pb.MsgVote, pb.MsgPreVote:
		message.IsTransfer = message.Context == transfer
		message.Context = ""
	case pb.MsgVoteResp, pb.MsgPreVoteResp:
		message.Granted = !m.Reject
	case pb.MsgSnap:
		message.Index = m.Snapshot.Metadata.Index
		message.LogTerm = m.Snapshot.Metadata.Term
	case pb.MsgApp:
		for _, entry := range m.Entries {
			message.EntryTerms = append(message.EntryTerms, entry.Term)
		}
	case pb.MsgReadIndex, pb.MsgReadIndexResp:
		message.Context = string(m.Entries[0].Data)
		// The library sends a question without a term.
		message.Term = node.raw.BasicStatus().Term
	}
	return message
}

func (cluster *Cluster) decode(message Message) pb.Message {
	m := pb.Message{
		From: message.From, To: message.To, Term: message.Term,
		Index:      message.Index,
		LogTerm:    message.LogTerm,
		Commit:     message.Commit,
		Reject:     message.Refused,
		RejectHint: message.Hint,
		Context:    []byte(message.Context),
	}
	switch message.Kind {
	case "requestVote":
		m.Type = pb.MsgVote
		if message.IsPreVote {
			m.Type = pb.MsgPreVote
		}
		if message.IsTransfer {
			m.Context = []byte(transfer)
		}
	case "requestVoteResponse":
		m.Type = pb.MsgVoteResp
		if message.IsPreVote {
			m.Type = pb.MsgPreVoteResp
		}
		m.Reject = !message.Granted
	case "appendEntries":
		m.Type = pb.MsgApp
		for offset, term := range message.EntryTerms {
			m.Entries = append(m.Entries, cluster.entry(message.Index+1+uint64(offset), term))
		}
	case "appendEntriesResponse":
		m.Type = pb.MsgAppResp
	case "heartbeat":
		m.Type = pb.MsgHeartbeat
	case "heartbeatResponse":
		m.Type = pb.MsgHeartbeatResp
	case "timeoutNow":
		m.Type = pb.MsgTimeoutNow
	case "installSnapshot":
		m = pb.Message{Type: pb.MsgSnap, From: message.From, To: message.To, Term: message.Term}
		m.Snapshot = snapshotOf(message.Index, message.LogTerm, cluster.configurations[message.Index])
	case "readIndex":
		m.Type = pb.MsgReadIndex
		m.Term = 0
		m.Entries = []pb.Entry{{Data: m.Context}}
	case "readIndexResponse":
		m.Type = pb.MsgReadIndexResp
		m.Entries = []pb.Entry{{Data: m.Context}}
	default:
		panic("unknown message " + message.Kind)
	}
	return m
}

func (cluster *Cluster) entry(index, term uint64) pb.Entry {
	entry, ok := cluster.entries[Position{index, term}]
	if !ok {
		panic(fmt.Sprintf("no node has written entry %d of term %d", index, term))
	}
	return entry
}

// Status is what both implementations must agree on after every step.
type Status struct {
	Role           string            `json:"role"`
	Term           uint64            `json:"term"`
	Vote           uint64            `json:"vote"`
	Leader         uint64            `json:"leader"`
	Commit         uint64            `json:"commit"`
	Applied        uint64            `json:"applied"`
	FirstIndex     uint64            `json:"firstIndex"`
	Log            []string          `json:"log"`
	Configuration  Configuration     `json:"configuration"`
	TransferTarget uint64            `json:"transferTarget"`
	Match          map[uint64]uint64 `json:"match"`
}

type Configuration struct {
	Voters         []uint64 `json:"voters"`
	VotersOutgoing []uint64 `json:"votersOutgoing"`
	Learners       []uint64 `json:"learners"`
	LearnersNext   []uint64 `json:"learnersNext"`
	AutoLeave      bool     `json:"autoLeave"`
}

var roles = map[raft.StateType]string{
	raft.StateFollower:     "follower",
	raft.StatePreCandidate: "preCandidate",
	raft.StateCandidate:    "candidate",
	raft.StateLeader:       "leader",
}

func (node *Node) status() *Status {
	library := node.raw.Status()
	first, err := node.storage.FirstIndex()
	check(err)
	match := map[uint64]uint64{}
	for id, progress := range library.Progress {
		match[id] = progress.Match
	}
	return &Status{
		Role: roles[library.RaftState], Term: library.Term, Vote: library.Vote, Leader: library.Lead,
		Commit: library.Commit, Applied: library.Applied,
		FirstIndex: first, Log: node.log(first),
		Configuration: Configuration{
			Voters:         sorted(library.Config.Voters[0]),
			VotersOutgoing: sorted(library.Config.Voters[1]),
			Learners:       sorted(library.Config.Learners),
			LearnersNext:   sorted(library.Config.LearnersNext),
			// The copy that the library gives away has lost it.
			AutoLeave: node.storage.configuration.AutoLeave,
		},
		TransferTarget: library.LeadTransferee,
		Match:          match,
	}
}

// Each entry as term and kind, a command with its text.
func (node *Node) log(first uint64) []string {
	last, err := node.storage.LastIndex()
	check(err)
	log := []string{}
	if last < first {
		return log
	}
	entries, err := node.storage.Entries(first, last+1, ^uint64(0))
	check(err)
	for _, entry := range entries {
		kind := string(entry.Data)
		if entry.Type == pb.EntryConfChangeV2 {
			kind = "configuration"
		} else if len(entry.Data) == 0 {
			kind = "noop"
		}
		log = append(log, fmt.Sprintf("%d:%s", entry.Term, kind))
	}
	return log
}

func sorted(ids quorum.MajorityConfig) []uint64 {
	list := []uint64{}
	for id := range ids {
		list = append(list, id)
	}
	sort.Slice(list, func(i, j int) bool { return list[i] < list[j] })
	return list
}
