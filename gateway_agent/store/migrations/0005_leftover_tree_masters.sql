-- Erasing needs a row that says so (SEC-37): files of tree masters that belong to no generation that lives

CREATE TABLE leftover_tree_master (
    generation INTEGER PRIMARY KEY
);
